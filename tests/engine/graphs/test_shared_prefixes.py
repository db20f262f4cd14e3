"""What rows begin with alike is computed once and held once, and changes no token."""

import pytest
import torch

from specbatch.engine.general.model import CausalLM
from specbatch.engine.graphs import pair as pairs
from specbatch.engine.graphs.kv.paging import PAGE
from specbatch.engine.sequence import SequenceState
from tests.engine import heads, tiny
from tests.engine.graphs import fast, threads

NEW = 5
DOCUMENT, OTHER = (
    torch.randint(0, tiny.VOCAB, (2 * PAGE + 22,), generator=torch.Generator().manual_seed(seed)).tolist()
    for seed in (1, 2)
)
PROMPTS = [
    *([*DOCUMENT, *[each] * 5] for each in range(4)),
    [*DOCUMENT[: PAGE + 5], 3, 4],
    *([*OTHER, each, 9] for each in range(2)),
    DOCUMENT,
    DOCUMENT,
    [5, 6, 7],
    [1, *DOCUMENT[1:]],
    DOCUMENT[: 2 * PAGE],  # its last two tokens end its second page
]
SIZES = {"max_length": 256, "max_sequences": 5}


@pytest.fixture(scope="module")
def expected(pair):
    """Of the same engine where nothing is shared; it is held against transformers elsewhere."""
    out, engine = fast.decode(
        pair.target, None, fast.requests(PROMPTS, NEW), prefix_caching=False, num_speculative_tokens=0, **SIZES
    )
    assert engine.stats.prefill_tokens_saved == 0
    return tiny.tokens(out, len(PROMPTS))


def counted(monkeypatch, prefill):
    """What each call of a prefill fills, in tokens."""
    counts, fill = [], prefill.fill
    monkeypatch.setattr(prefill, "fill", lambda *args: counts.append(fill(*args)) or counts[-1])
    return counts


@pytest.mark.slow
@pytest.mark.parametrize("k", [0, 3])
def test_rows_that_share_pages_have_their_own_tokens_and_fill_the_shared_ones_once(pair, expected, monkeypatch, k):
    engine = fast.engine(pair.target, pair.twin, num_speculative_tokens=k, **SIZES)
    engine.warmup()
    by_target, *by_drafter = (
        counted(monkeypatch, each) for each in (engine.runner.pair.prefill, *engine.runner.pair.drafter.prefills)
    )
    out = fast.finish(engine, fast.requests(PROMPTS, NEW))
    assert tiny.tokens(out, len(PROMPTS)) == expected
    assert engine.stats.acceptance_rate == (
        1.0 if k else 0.0
    )  # KV of the drafter that is not the row's would be rejected
    of_all = sum(len(prompt) - 1 for prompt in PROMPTS)
    shared = PAGE * (3 * 2 + 1 + 2 + 2 * 2 + 1)
    assert sum(by_target) == of_all - shared == of_all - engine.stats.prefill_tokens_saved
    if k:
        assert sum(*by_drafter) == of_all - shared
    assert engine.runner.pair.target_pool.free == engine.runner.pair.target_pool.pages


@pytest.mark.slow
def test_shared_pages_are_held_once(pair):
    engine = fast.engine(pair.target, pair.twin, num_speculative_tokens=3, max_length=256, max_sequences=8)
    engine.warmup()
    on, most = engine.runner.pair, [0, 0]
    draft = on.draft

    def watched(*args):
        for number, pool in enumerate(on.pools):
            most[number] = max(most[number], pool.pages - pool.free)
        draft(*args)

    on.draft = watched
    fast.finish(engine, fast.requests([DOCUMENT] * 8, NEW))
    # 8 copies of a sampled row, as it were: two pages of the prompt for all, and to each what it writes itself
    assert most == [2 + 8, 2 + 8]


@pytest.mark.slow
def test_where_pages_are_few_rows_are_preempted_and_nothing_changes(pair, expected, monkeypatch):
    pages = 5
    monkeypatch.setattr(pairs, "page_counts", lambda *_: (pages, pages))
    rows = fast.requests(PROMPTS, 70)
    sizes = {"num_speculative_tokens": 3, **SIZES}
    out, engine = fast.decode(pair.target, pair.twin, rows, **sizes)
    assert [tokens[:NEW] for tokens in tiny.tokens(out, len(rows))] == expected
    assert engine.stats.acceptance_rate in (0.0, 1.0)
    assert engine.stats.prefill_tokens_saved > 0
    for pool in engine.runner.pair.pools:
        assert pool.free == pages


@pytest.mark.slow
def test_a_drafter_that_falls_behind_shares_what_others_have_taken_in(pair, expected):
    controller = fast.Scripted([0, 0, 3, 0, 2])
    engine = fast.engine(pair.target, pair.twin, controller, num_speculative_tokens=3, **SIZES)
    controller.follow(engine)
    out = fast.finish(engine, fast.requests(PROMPTS, NEW))
    assert tiny.tokens(out, len(PROMPTS)) == expected
    assert engine.stats.acceptance_rate == 1.0
    assert max(controller.lags) < 300  # of five rows with 156 tokens each: what they share counts once


@pytest.mark.slow
def test_drawn_rows_are_those_of_an_engine_that_shares_nothing(pair):
    rows = fast.requests(PROMPTS, NEW, fast.MIXED)
    sizes = {"num_speculative_tokens": 3, **SIZES}
    shared, _ = fast.decode(pair.target, pair.noisy, rows, **sizes)
    alone, _ = fast.decode(pair.target, pair.noisy, rows, prefix_caching=False, **sizes)
    assert tiny.tokens(shared, len(rows)) == tiny.tokens(alone, len(rows))
    assert fast.counts(shared) == fast.counts(alone)


@pytest.mark.slow
@torch.inference_mode()
def test_a_head_shares_the_pages_of_the_target_up_to_the_token_that_differs(tmp_path):
    """Its KV of a page's last position is made from the token behind it, which is the first that differs here."""
    target = CausalLM(tiny.qwen3(layers=7))
    config = heads.safeailab()
    drafter = heads.load(heads.write(tmp_path, config, heads.weights(config, joined=3)), target)
    prompts = [[*DOCUMENT[: 2 * PAGE], each, each, 2] for each in (1, 2, 1)]

    def kv(*, sharing):
        runner = fast.engine(target, drafter, prefix_caching=sharing, num_speculative_tokens=3, **SIZES).runner
        rows = [SequenceState(request) for request in fast.requests(prompts, NEW)]
        computed, on = runner.prefill(rows), runner.pair
        pages, held = on.drafter.head.stage.kv, on.target_pool.held
        layers = [pages.keys[0], pages.values[0]]
        return computed, [
            layer[held[row.slot]].transpose(1, 2).flatten(0, 1)[: row.length] for row in rows for layer in layers
        ]

    (fewer, shared), (every, own) = kv(sharing=True), kv(sharing=False)
    assert every - fewer == 3 * PAGE  # one of the second row, two of the third
    torch.testing.assert_close(shared, own, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("stages", "apart"), [(1, True), (2, True), (2, False)])
def test_groups_of_rows_over_several_lanes_share_pages_too(pair, expected, monkeypatch, stages, apart):
    failures = threads.use_threads(monkeypatch)
    spread = {"stages_per_device": stages, "drafter_apart": apart, "num_speculative_tokens": 3}
    engine = fast.engine(pair.target, pair.twin, **spread, **SIZES)
    seen = fast.regrouped_at_random(engine, seed=3)
    out = fast.finish(engine, fast.requests(PROMPTS, NEW))
    assert tiny.tokens(out, len(PROMPTS)) == expected
    assert engine.stats.acceptance_rate == 1.0
    assert failures == []
    assert len({*seen}) > 1
    assert engine.stats.prefill_tokens_saved > 8 * PAGE


@pytest.mark.slow
def test_what_lies_in_free_pages_changes_nothing(pair, expected):
    engine = fast.engine(pair.target, pair.twin, num_speculative_tokens=3, **SIZES)
    engine.warmup()
    on = engine.runner.pair
    verify = on.verify

    def poisoning(*args):
        verify(*args)
        for decoder, pool in ((on.target, on.target_pool), (on.drafter.decoder, on.drafter.pool)):
            pages = decoder.stages[0].pages
            for layer in (*pages.keys, *pages.values):
                layer[[0, *pool.allocator.unused]] = torch.nan

    on.verify = poisoning
    out = fast.finish(engine, fast.requests(PROMPTS, NEW))
    assert tiny.tokens(out, len(PROMPTS)) == expected
    assert engine.stats.acceptance_rate == 1.0


@pytest.mark.slow
def test_what_a_row_of_nan_leaves_is_found_by_nobody(pair, expected, monkeypatch):
    engine = fast.engine(pair.target, pair.twin, num_speculative_tokens=3, max_length=256, max_sequences=1)
    engine.warmup()
    on = engine.runner.pair
    verify, bad = on.verify, "1"

    def spied(rows, k, mode):
        engine.rows = rows
        verify(rows, k, mode)
        if engine.scheduler.running and engine.scheduler.running[0].request.id == bad:
            for pool, decoder in ((on.target_pool, on.target), (on.drafter.pool, on.drafter.decoder)):
                for layer in (*decoder.stages[0].pages.keys, *decoder.stages[0].pages.values):
                    layer[pool.held[engine.scheduler.running[0].slot]] = torch.nan

    monkeypatch.setattr(on, "verify", spied)
    out = fast.finish(engine, fast.requests(PROMPTS[:4], NEW))
    assert out[bad].finish_reason == "error"
    assert [list(out[name].token_ids) for name in "023"] == [expected[number] for number in (0, 2, 3)]


@pytest.mark.slow
def test_rows_of_a_later_call_find_what_earlier_ones_left(pair, expected):
    engine = fast.engine(pair.target, pair.twin, num_speculative_tokens=3, **SIZES)
    fast.finish(engine, fast.requests(PROMPTS[:1], NEW))
    before = engine.stats.prefill_tokens_saved
    out = fast.finish(engine, fast.requests(PROMPTS[:2], NEW))
    assert tiny.tokens(out, 2) == expected[:2]
    assert (before, engine.stats.prefill_tokens_saved) == (0, 2 * 2 * PAGE)
