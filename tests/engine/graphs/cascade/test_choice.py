"""Rounds in which rows read shared pages together give each row its own tokens, and are chosen where that pays."""

from dataclasses import replace

import pytest
import torch

from specbatch.engine.general.model import CausalLM
from specbatch.engine.general.ngram import NGramDrafter
from specbatch.engine.graphs.cascade import choice
from specbatch.engine.graphs.cascade.price import CascadePrice
from specbatch.engine.graphs.kv.paging import PAGE
from specbatch.engine.loading.load import load_causal_lm
from tests.engine import architectures, heads, tiny
from tests.engine.fp8 import checkpoints as fp8_checkpoints
from tests.engine.graphs import fast, threads
from tests.engine.logits.test_grammar import Residues

NEW = 5
DOCUMENT, OTHER = (
    torch.randint(0, tiny.VOCAB, (2 * PAGE + 22,), generator=torch.Generator().manual_seed(seed)).tolist()
    for seed in (1, 2)
)
PROMPTS = [
    *([*DOCUMENT, *[each] * 5] for each in range(4)),
    [*DOCUMENT[: PAGE + 5], 3, 4],
    *([*OTHER, each, 9] for each in range(3)),
    DOCUMENT,
    [5, 6, 7],
]
SIZES = {"max_length": 256, "max_sequences": 6}


@pytest.fixture(autouse=True)
def few_pages_are_enough(monkeypatch):
    monkeypatch.setattr("specbatch.engine.graphs.cascade.tiles.LEAST_PAGES", 1)


@pytest.fixture(scope="module")
def expected(pair):
    sizes = {"prefix_caching": False, "num_speculative_tokens": 0, **SIZES}
    return tiny.tokens(fast.decode(pair.target, None, fast.requests(PROMPTS, NEW), **sizes)[0], len(PROMPTS))


def watched(engine):
    """Of each round: whether it is one of those; and how many rows the devices have in tiles."""
    launch, seen = engine.runner._launch, []

    def launched(slots, rows, k, mode, group):
        shared = engine.runner.pair.target.stages[0].kv.prefixes.shared
        seen.append((mode.cascade, int((shared > 0).sum())))
        return launch(slots, rows, k, mode, group)

    engine.runner._launch = launched
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("groups", [None, 2])
@pytest.mark.parametrize("k", [0, 3])
def test_rows_have_their_own_tokens_whatever_they_read_together(pair, expected, k, groups):
    sizes = {"num_speculative_tokens": k, "micro_batches": groups, "cascade_attention": True, **SIZES}
    engine = fast.engine(pair.target, pair.twin, **sizes)
    seen = watched(engine)
    out = fast.finish(engine, fast.requests(PROMPTS, NEW))
    assert tiny.tokens(out, len(PROMPTS)) == expected
    assert engine.stats.acceptance_rate == (1.0 if k else 0.0)
    assert max(seated for cascade, seated in seen if cascade) > 1
    assert 0 < engine.stats.cascade_rounds <= sum(cascade for cascade, _ in seen)


@pytest.mark.slow
@pytest.mark.parametrize(("stages", "apart"), [(1, True), (2, True), (2, False)])
def test_groups_in_flight_over_several_lanes_have_tiles_of_their_own(pair, expected, monkeypatch, stages, apart):
    failures = threads.use_threads(monkeypatch)
    spread = {"stages_per_device": stages, "drafter_apart": apart, "num_speculative_tokens": 3}
    engine = fast.engine(pair.target, pair.twin, cascade_attention=True, **spread, **SIZES)
    seen, groups = watched(engine), fast.regrouped_at_random(engine, seed=3)
    out = fast.finish(engine, fast.requests(PROMPTS, NEW))
    assert tiny.tokens(out, len(PROMPTS)) == expected
    assert engine.stats.acceptance_rate == 1.0
    assert failures == []
    assert max(groups) > 1
    assert any(cascade for cascade, _ in seen)


def windows(tmp_path):
    del tmp_path
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    made = architectures.build("gemma3_text", num_hidden_layers=3, layer_types=kinds, max_position_embeddings=256)
    return CausalLM(made)


def mixture(tmp_path):
    del tmp_path
    return CausalLM(architectures.build("qwen3_moe", max_position_embeddings=256))


def fp8(tmp_path):
    sizes = {"hidden_size": 128, "intermediate_size": 128, "num_attention_heads": 4, "head_dim": 32}
    plain = architectures.build("qwen3", max_position_embeddings=256, **sizes)
    folder = fp8_checkpoints.save(plain, tmp_path, fp8_checkpoints.BLOCK_SCALED)
    return load_causal_lm(str(folder), device_map={"": "cpu"}, dtype="float32")


@pytest.mark.slow
@pytest.mark.parametrize("build", [windows, mixture, fp8])
def test_layers_of_other_kinds_give_what_they_give_to_rows_that_share_nothing(tmp_path, build):
    target, rows = build(tmp_path), fast.requests(PROMPTS, NEW)
    sizes = {"num_speculative_tokens": 2, **SIZES}
    alone, _ = fast.decode(target, NGramDrafter(), rows, prefix_caching=False, **sizes)
    together, engine = fast.decode(target, NGramDrafter(), rows, cascade_attention=True, **sizes)
    assert tiny.tokens(together, len(rows)) == tiny.tokens(alone, len(rows))
    assert engine.runner.cascade._seated


@pytest.mark.slow
@pytest.mark.parametrize("drafts", ["head", "window"])
def test_a_head_and_a_drafter_with_a_window_draft_what_they_draft_beside_rows_that_share_nothing(
    pair, tmp_path, drafts
):
    target, drafter, sizes = pair.target, pair.noisy, {"num_speculative_tokens": 3, **SIZES}
    if drafts == "head":
        target = CausalLM(tiny.qwen3(layers=7))
        drafter = heads.load(
            heads.write(tmp_path, heads.safeailab(), heads.weights(heads.safeailab(), joined=3)), target
        )
    else:
        sizes["drafter_window"] = 32
    alone, _ = fast.decode(target, drafter, fast.requests(PROMPTS, NEW), prefix_caching=False, **sizes)
    together, engine = fast.decode(target, drafter, fast.requests(PROMPTS, NEW), cascade_attention=True, **sizes)
    assert tiny.tokens(together, len(PROMPTS)) == tiny.tokens(alone, len(PROMPTS))
    assert fast.counts(together) == fast.counts(alone)
    assert engine.runner.cascade._seated


@pytest.mark.slow
def test_rows_with_a_grammar_read_shared_pages_together_too(pair, monkeypatch):
    rows = [replace(row, grammar=Residues() if at % 2 else None) for at, row in enumerate(fast.requests(PROMPTS, NEW))]
    sizes = {"num_speculative_tokens": 2, **SIZES}
    alone, _ = fast.decode(pair.target, pair.twin, rows, prefix_caching=False, **sizes)
    rows = [replace(row, grammar=Residues() if row.grammar else None) for row in rows]
    engine = fast.engine(pair.target, pair.twin, cascade_attention=True, **sizes)
    seen = watched(engine)
    assert tiny.tokens(fast.finish(engine, rows), len(rows)) == tiny.tokens(alone, len(rows))
    assert any(cascade for cascade, _ in seen)


# -- where it pays -------------------------------------------------------------------------------------------------------


def auto(pair, bandwidth, **sizes):
    """An engine that decides by itself, as on a GPU of so many bytes a second."""
    engine = fast.engine(pair.target, pair.twin, **{"num_speculative_tokens": 2, **SIZES, **sizes})
    chooser = engine.runner.cascade
    chooser._prices = [CascadePrice.of(decoder, bandwidth) for decoder in chooser._decoders]
    return engine, watched(engine)


@pytest.mark.slow
@pytest.mark.parametrize(("bandwidth", "chosen"), [(1e6, True), (1e15, False)])
def test_it_is_chosen_where_reading_costs_more_than_kernels(pair, expected, bandwidth, chosen):
    engine, seen = auto(pair, bandwidth)
    assert tiny.tokens(fast.finish(engine, fast.requests(PROMPTS, NEW)), len(PROMPTS)) == expected
    assert any(cascade for cascade, _ in seen) == chosen


@pytest.mark.slow
def test_rows_that_share_nothing_are_never_seated(pair):
    engine, seen = auto(pair, 1e6)
    engine.runner.cascade._seat = None  # would fail
    fast.finish(engine, fast.requests([[each, *DOCUMENT] for each in range(6)], NEW))
    assert not any(cascade for cascade, _ in seen)


@pytest.mark.slow
def test_a_kind_of_round_is_captured_once_it_would_have_saved_what_its_capture_takes(pair, monkeypatch):
    engine, seen = auto(pair, 1e6)
    monkeypatch.setattr(engine.runner.cascade, "_saved", lambda *_: 0.4 * choice.CAPTURE_SECONDS)
    fast.finish(engine, fast.requests([DOCUMENT] * 6, 24))
    assert [cascade for cascade, _ in seen] == [False, False, *[True] * (len(seen) - 2)]
    assert len(seen) > 5


@pytest.mark.slow
def test_on_a_cpu_nothing_is_chosen_by_itself(pair):
    engine = fast.engine(pair.target, pair.twin, num_speculative_tokens=2, **SIZES)
    engine.warmup()
    seen = watched(engine)
    fast.finish(engine, fast.requests(PROMPTS, NEW))
    assert not any(cascade for cascade, _ in seen)
