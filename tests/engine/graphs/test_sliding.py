"""Layers with a window let go of pages: no token changes, whatever lies in those; and rows hold no more than the window and a round."""

import pytest
import torch

from specbatch.engine.general.drafter import ModelDrafter
from specbatch.engine.general.model import CausalLM
from specbatch.engine.graphs import pair as pairs
from specbatch.engine.graphs.decoder import Decoder
from specbatch.engine.graphs.kv.paging import PAGE
from specbatch.engine.graphs.kv.pool import PagePool
from specbatch.engine.graphs.reference import TorchOps
from specbatch.engine.sequence import SequenceState
from specbatch.window_pages import pages_a_row
from tests.engine.graphs import fast, threads
from tests.engine.graphs.describe import families

WINDOW, NEW = 30, 70
SIZES = {"max_length": 512, "max_sequences": 3, "graphs_prefill_chunk": PAGE}
FAMILIES = {
    "gemma3": {},
    "olmo3": {},
    "mistral, a window": {},
    "qwen3": {"use_sliding_window": True, "layer_types": ["full_attention", "sliding_attention", "sliding_attention"]},
}
DOCUMENT = torch.randint(0, 50, (3 * PAGE + 9,), generator=torch.Generator().manual_seed(6)).tolist()
PROMPTS = [
    torch.randint(0, 50, (length,), generator=torch.Generator().manual_seed(length)).tolist()
    for length in (2 * PAGE + WINDOW - 1, 330)  # the first one's last token looks back on the last position of a page
] + [[*DOCUMENT, *[each] * 7] for each in (1, 1, 2)]  # fmt: skip


def build(name, device="cpu"):
    """Target and drafter, and the model that both are of, in transformers' own modules."""
    sizes = {"sliding_window": WINDOW, "num_hidden_layers": 3}
    alone, packed = (families.build(name, **sizes | FAMILIES[name]) for _ in range(2))
    drafter = ModelDrafter(CausalLM(families.noisy(alone).to(device)))
    return CausalLM(packed.to(device)), drafter, alone.to(device)


@pytest.fixture(scope="module")
def gemma():
    return build("gemma3")


def poisoned(monkeypatch, engine):
    """Before each round and each forward of a prefill NaN lies in every page that no row holds and no key finds, and where nothing is read."""
    on = engine.runner.pair
    pool = on.target_pool

    def poisoning(step):
        def poison(*args, **more):
            done = step(*args, **more)
            for stage in on.target.stages:
                for layer, keys, values in zip(stage.layers, stage.pages.keys, stage.pages.values, strict=True):
                    of_layer = pool.sliding if layer.what.attention.window else pool
                    for kv in (keys, values):
                        kv[[0, *of_layer.allocator.unused]] = torch.nan
            return done

        return poison

    monkeypatch.setattr(on, "place", poisoning(on.place))
    monkeypatch.setattr(pool.sliding, "prepare", poisoning(pool.sliding.prepare))


@torch.inference_mode()
def wrong(alone, prompts, out):
    """Rows of which a token is not what transformers' own model gives after the tokens before it."""
    found = []
    for number, prompt in enumerate(prompts):
        tokens = list(out[str(number)].token_ids)
        best = alone(torch.tensor([[*prompt, *tokens]], device=alone.device), use_cache=False).logits[0].argmax(-1)
        if len(tokens) != NEW or best[len(prompt) - 1 : -1].tolist() != tokens:
            found.append(number)
    return found


def decoded(monkeypatch, built, prompts=PROMPTS, **sizes):
    target, drafter, alone = built
    sizes = {"num_speculative_tokens": 3} | SIZES | sizes
    engine = fast.engine(target, drafter if sizes["num_speculative_tokens"] != 0 else None, **sizes)
    engine.warmup()
    poisoned(monkeypatch, engine)
    out = fast.finish(engine, fast.requests(prompts, NEW))
    assert wrong(alone, prompts, out) == []
    pool = engine.runner.pair.target_pool
    assert (pool.free, pool.sliding.allocator.free, pool.sliding._wanted) == (pool.pages, pool.sliding.pages, {})
    return engine


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_tokens_are_those_of_transformers_far_beyond_the_window(name, monkeypatch):
    engine = decoded(monkeypatch, build(name))
    assert 0 < engine.stats.acceptance_rate < 1
    assert engine.stats.prefill_tokens_saved == 2 * 3 * PAGE


@pytest.mark.gpu
@pytest.mark.parametrize("name", FAMILIES)
def test_kernels_and_captured_rounds_read_no_page_behind_a_window(name, monkeypatch):
    decoded(monkeypatch, build(name, "cuda"))
    decoded(monkeypatch, build(name, "cuda"), num_speculative_tokens=0, prefix_caching=False)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [{"num_speculative_tokens": 0}, {"num_speculative_tokens": None}, {"max_sequences": 1, "max_length": 800}, {"graphs_prefill_chunk": 3 * PAGE, "max_sequences": 7}, {"prefix_caching": False}], ids=str)  # fmt: skip
def test_tokens_are_those_of_transformers_however_rows_run(gemma, monkeypatch, sizes):
    decoded(monkeypatch, gemma, **sizes)


@pytest.mark.slow
def test_tokens_are_those_of_transformers_where_rows_are_preempted(gemma, monkeypatch):
    preempted, wait_again = [], SequenceState.waiting_again
    monkeypatch.setattr(pairs, "page_counts", lambda *args: (9, 30) if args[-1] else (99, 99))
    monkeypatch.setattr(SequenceState, "waiting_again", lambda s: preempted.append(s) or wait_again(s))
    decoded(monkeypatch, gemma, prompts=PROMPTS[:3])
    assert preempted


@pytest.mark.slow
@pytest.mark.parametrize(("stages", "apart"), [(2, True), (3, False)])
def test_tokens_are_those_of_transformers_with_groups_of_rows_over_several_lanes(gemma, monkeypatch, stages, apart):
    failures = threads.use_threads(monkeypatch)
    target, drafter, alone = gemma
    spread = {"stages_per_device": stages, "drafter_apart": apart, "num_speculative_tokens": 3}
    engine = fast.engine(target, drafter, **SIZES | spread)
    fast.regrouped_at_random(engine, seed=3)
    out = fast.finish(engine, fast.requests(PROMPTS, NEW))
    assert failures == []
    assert wrong(alone, PROMPTS, out) == []


@pytest.mark.slow
def test_where_the_last_pages_of_a_beginning_are_gone_it_is_computed_anew(gemma):
    """And what others hold of it in the other layers is left as it is."""
    target, _, alone = gemma
    engine = fast.engine(target, None, num_speculative_tokens=0, **SIZES)
    engine.warmup()
    pool, prompts = engine.runner.pair.target_pool, PROMPTS[2:]
    first = fast.finish(engine, fast.requests(prompts[:1], NEW))
    assert engine.stats.prefill_tokens_saved == 0
    cached = dict(pool.allocator._page_of)
    whole = engine.runner.pair.target.stages[0].pages.keys[1]
    before = whole[[*cached.values()]].clone()
    pool.sliding.allocator.forget_all()
    out = fast.finish(engine, fast.requests(prompts[:1], NEW))
    assert engine.stats.prefill_tokens_saved == 0
    assert list(out["0"].token_ids) == list(first["0"].token_ids)
    assert cached.items() <= pool.allocator._page_of.items()
    assert whole[[*cached.values()]].equal(before)
    out = fast.finish(engine, fast.requests(prompts, NEW))
    assert wrong(alone, prompts, out) == []
    assert engine.stats.prefill_tokens_saved == 3 * 3 * PAGE  # found again


def test_a_row_is_promised_only_what_it_shares_when_others_have_taken_all_that_nobody_holds(gemma):
    """Five pages of its beginning are held; of ten that are found the window's are there of the last alone."""
    pool, keys = (
        PagePool(Decoder(gemma[0], TorchOps(), 12 * PAGE), 11, 2, 12 * PAGE, sliding=20),
        [*map(str.encode, "0123456789")],
    )
    for slot, count in ((0, 10), (1, 5)):
        pool.join(slot, keys[:count])
        pool.sliding.prepare([(slot, PAGE * pool.sliding._end[slot], PAGE * count)])
        pool.sliding.prepare(())
        pool.grow(slot, PAGE * count)
        pool.fill(slot)
    pool.evict(0)
    for key in keys[:9]:
        if key in pool.sliding.allocator._page_of and not pool.sliding.allocator.held([key]):
            pool.sliding.allocator._forget(pool.sliding.allocator._page_of[key])
    pool.sliding.evict(1)
    pool.sliding.allocator._forget(pool.sliding.allocator._page_of[keys[4]])
    assert (pool.allocator.held(keys), pool.allocator.found(keys), pool.found(keys)) == (5, 10, 10)
    assert pool.held_of(keys) == 0


@pytest.mark.slow
def test_rows_hold_pages_of_the_window_and_no_more(gemma, monkeypatch):
    engine = decoded(monkeypatch, gemma, prompts=PROMPTS[1:2] * 3, prefix_caching=False)
    pool = engine.runner.pair.target_pool
    each, longest = pages_a_row(WINDOW, 3), -(-(330 + NEW + 4) // PAGE)
    assert 3 * each < 3 * longest
    assert pool.sliding.most_held <= 3 * each + 4 == pool.sliding.pages
    stage = engine.runner.pair.target.stages[0]
    made = {layer.what.attention.window: len(kv) for layer, kv in zip(stage.layers, stage.pages.keys, strict=True)}
    assert made == {WINDOW: pool.sliding.pages + 1, 0: pool.pages + 1}
