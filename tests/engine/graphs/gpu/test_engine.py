"""The fast path with its kernels and CUDA graphs: python -m pytest -m gpu tests/engine/graphs/gpu/test_engine.py (torch, transformers, triton)."""

import copy
from types import SimpleNamespace

import pytest
import torch

from specbatch.engine.general.drafter import ModelDrafter
from specbatch.engine.general.model import CausalLM
from specbatch.engine.general.ngram import NGramDrafter
from specbatch.engine.graphs import sizes
from specbatch.engine.graphs.cuda_graphs import Capture, CudaGraphRunner
from specbatch.engine.graphs.mode import Mode
from specbatch.engine.graphs.reference import TorchOps
from specbatch.engine.request import SamplingParams
from specbatch.engine.triton_support import why_no_kernels
from tests.engine import tiny
from tests.engine.graphs import fast, joints
from tests.engine.graphs.gpu.embedded import GPU, embedded_prompts, graphs_of, judged, no_waits

pytestmark = pytest.mark.gpu

NEW = 40


@pytest.fixture(scope="module")
def small():
    """The tiny pair on the GPU, and what the CPU gives."""
    model = tiny.qwen3()
    rows = tiny.prompts()
    expected = tiny.greedy_reference(model, rows, NEW)
    return SimpleNamespace(
        prompts=rows,
        expected=expected,
        noisy=ModelDrafter(CausalLM(tiny.noisy(model).to(GPU))),
        twin=ModelDrafter(CausalLM(copy.deepcopy(model).to(GPU))),
        target=CausalLM(model.to(GPU)),
    )


def test_the_kernels_are_at_work(small):
    assert why_no_kernels(GPU) is None
    engine = fast.engine(small.target, None, max_sequences=1)
    assert type(engine.runner.pair.verifier.ops) is not TorchOps


# -- greedy, float32 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 8, 32])
@pytest.mark.parametrize("k", [0, 1, 4, None])
def test_greedy_tokens_are_those_of_the_cpu(small, batch, k):
    rows = fast.requests(small.prompts[:6] if batch == 1 else small.prompts, NEW)
    for drafter in (small.noisy, NGramDrafter()):
        out, engine = fast.decode(
            small.target,
            drafter,
            rows,
            max_sequences=batch,
            num_speculative_tokens=k,
            max_speculative_tokens=4,
        )
        assert tiny.tokens(out, len(rows)) == small.expected[: len(rows)]
        assert graphs_of(engine) == 1


@pytest.mark.parametrize("rule", ["coupled", "rejection"])
def test_a_drafter_that_is_the_target_is_always_accepted(small, rule):
    rows = fast.requests(small.prompts, NEW, fast.MIXED)
    _, engine = fast.decode(
        small.target, small.twin, rows, max_sequences=5, num_speculative_tokens=4, acceptance_rule=rule
    )
    assert engine.stats.acceptance_rate > 0.999


@pytest.mark.parametrize(("pages", "cascade"), [(None, False), (12, False), (None, True)])
@pytest.mark.parametrize("k", [0, 4])
def test_rows_that_share_pages_have_the_tokens_of_rows_that_do_not(small, monkeypatch, k, pages, cascade):
    monkeypatch.setattr("specbatch.engine.graphs.cascade.tiles.LEAST_PAGES", 1)
    if pages:
        monkeypatch.setattr("specbatch.engine.graphs.pair.page_counts", lambda *_: (pages, pages))
    document = [token for prompt in small.prompts for token in prompt][:150]
    prompts = [*([*document, each, 1] for each in range(30)), document[:128], document, *small.prompts]
    rows = fast.requests(prompts, NEW)
    sizes = {"max_length": 256, "max_sequences": 16, "num_speculative_tokens": k, "cascade_attention": cascade}
    out, engine = fast.decode(small.target, small.twin, rows, **sizes)
    alone, _ = fast.decode(small.target, small.twin, rows, **sizes, prefix_caching=False)
    captured = engine.runner.pair.graphs._captured
    assert any(key[-1].cascade for key in captured if key[0] == "verify") == cascade
    assert tiny.tokens(out, len(rows)) == tiny.tokens(alone, len(rows))
    assert engine.stats.acceptance_rate in (0.0, 1.0)
    assert engine.stats.prefill_tokens_saved >= 25 * 128


@pytest.mark.parametrize("ks", [(0, 3, 0, 1), (3, 0, 0, 0, 4, 1)])
def test_k_may_change_in_every_round(small, ks):
    rows = fast.requests(small.prompts, NEW)
    out, engine = fast.decode(
        small.target, small.twin, rows, fast.Scripted(ks), max_sequences=8, num_speculative_tokens=4
    )
    assert tiny.tokens(out, len(rows)) == small.expected
    assert engine.stats.acceptance_rate > 0.999


@pytest.mark.parametrize("batch", [1, 8, 32])
@pytest.mark.parametrize("k", [0, 1, 4, None])
def test_the_embedded_pairs_greedy_tokens_in_float32_are_the_targets_own(pairs, batch, k):
    pair = pairs("float32")
    prompts = embedded_prompts(3 if batch == 1 else 32)
    for drafter in (pair.drafter, NGramDrafter()):
        out, engine = fast.decode(
            pair.target,
            drafter,
            fast.requests(prompts, 32),
            max_sequences=batch,
            num_speculative_tokens=k,
            max_speculative_tokens=4,
            max_length=256,
        )
        found = judged(out, torch.float32)
        assert found["unexplained"] == 0
        assert found["tie"] <= 1  # nearer than 1e-4 of a logit
        assert len(out) == len(prompts)
        assert graphs_of(engine) == 1


# -- captures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["coupled", "rejection"])
@pytest.mark.parametrize("drafts", ["model", "ngram"])
def test_replayed_graphs_do_what_the_same_steps_do_eagerly(pairs, monkeypatch, rule, drafts):
    """In bfloat16, with refills, prompts of several forwards and rows of all kinds: token for token, count for count."""
    pair = pairs("bfloat16")
    rows = fast.stopped(embedded_prompts(20, 1, 200), [24, 7, 15], fast.MIXED)
    again = fast.stopped(embedded_prompts(20, 1, 200), [24, 7, 15], fast.MIXED)
    drafter = pair.drafter if drafts == "model" else NGramDrafter()
    drafter_again = pair.drafter if drafts == "model" else NGramDrafter()  # which has seen no rows
    settings = {"max_sequences": 6, "num_speculative_tokens": 3, "max_length": 256, "acceptance_rule": rule}
    replayed, engine = fast.decode(pair.target, drafter, rows, **settings)
    assert graphs_of(engine) == 1

    @torch.inference_mode()
    def run(self, key, step, lane, spans=None):
        step(Capture(lane))

    monkeypatch.setattr(CudaGraphRunner, "run", run)
    eager, engine = fast.decode(pair.target, drafter_again, again, **settings)
    assert len(engine.runner.pair.graphs) == 0
    assert tiny.tokens(replayed, 20) == tiny.tokens(eager, 20)
    assert fast.counts(replayed) == fast.counts(eager)


KINDS = {"greedy": [SamplingParams()], "plain": [SamplingParams(1.0)], "filtered": fast.MIXED}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", ["coupled", "rejection"])
@pytest.mark.parametrize("drafts", ["model", "ngram"])
def test_the_host_waits_for_nothing_inside_a_round(pairs, kind, rule, drafts):
    pair = pairs("bfloat16")
    drafter = pair.drafter if drafts == "model" else NGramDrafter()
    engine = fast.engine(pair.target, drafter, max_sequences=4, num_speculative_tokens=3, acceptance_rule=rule)
    pair, mode = engine.runner.pair, Mode.of(KINDS[kind])

    @torch.inference_mode()
    def play():
        pair.place([])
        pair.draft(4, 3, mode)
        pair.verify(4, 3, mode)
        pair.read_outcome(4, 3)

    for _ in range(2):
        play()
    captures = len(pair.graphs)
    with no_waits():
        play()
    torch.cuda.synchronize()
    assert len(pair.graphs) == captures >= 2


def test_rows_come_and_go_without_a_wait_either(small):
    """What the host does wait for is the event of a round that it takes in."""
    rows = fast.stopped(small.prompts, [17, 5, 30], [SamplingParams(), SamplingParams(0.9)])
    engine = fast.engine(small.target, small.noisy, max_sequences=4, num_speculative_tokens=3)
    fast.finish(engine, fast.stopped(small.prompts, [17, 5, 30], [SamplingParams(), SamplingParams(0.9)]))  # captures
    with no_waits():
        out = fast.finish(engine, rows)
    assert all(list(out[str(i)].token_ids) == small.expected[i][: len(out[str(i)].token_ids)] for i in range(0, 20, 2))


# -- 16 bits and sampling ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", ["greedy", "filtered"])
def test_every_token_in_16_bits_is_the_targets_own_or_a_tie(pairs, dtype, kind):
    pair = pairs(dtype)
    for drafter, k in ((pair.drafter, 4), (NGramDrafter(), 4), (None, 0)):
        rows = fast.requests(embedded_prompts(24), 40, KINDS[kind])
        out, _ = fast.decode(pair.target, drafter, rows, max_sequences=8, num_speculative_tokens=k, max_length=256)
        found = judged(out, getattr(torch, dtype))
        assert found["unexplained"] == 0
        assert found["exact"] > 0.95 * sum(found.values())


@pytest.mark.parametrize("rule", ["coupled", "rejection"])
@pytest.mark.parametrize("kind", ["plain", "filtered"])
def test_the_sampled_distribution_is_the_targets(rule, kind):
    assert joints.worst_p_value(GPU, kind, rule=rule, k=2, rows=9_000, slots=256) > joints.PASS


# -- memory --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usable", "max_length"),
    [
        (60 * 2**20, 40_000),  # of 640 MB that 64 rows could take
        (12 * 2**14, 128),  # 9 pages for the target, 3 for the drafter: rows of 1 or 2 are preempted as they grow
    ],
)
def test_where_pages_are_short_rows_wait_and_no_token_changes(small, monkeypatch, usable, max_length):
    """As on a GPU that is nearly full when the engine starts."""
    monkeypatch.setattr(sizes, "_usable", lambda device, reserve: usable)
    rows = fast.requests(small.prompts, NEW)
    engine = fast.engine(small.target, small.noisy, max_sequences=64, num_speculative_tokens=3, max_length=max_length)
    assert engine.runner.pair.target_pool.pages < 64 * max_length // 64
    joined = []
    join = engine.runner.prefill
    monkeypatch.setattr(engine.runner, "prefill", lambda rows: joined.extend(rows) or join(rows))
    out = fast.finish(engine, rows)
    assert tiny.tokens(out, len(rows)) == small.expected
    assert len(joined) > len(rows) or max_length > 128


@pytest.mark.parametrize("spare", [1, 3])  # MB: none for a segment of 2 MB before the first capture, or none within it
def test_a_gpu_that_fills_up_meanwhile_halves_the_slots_and_changes_no_token(small, spare):
    rows = fast.requests(small.prompts, NEW)
    # 64 rows of 40,000 positions take 640 MB of pages.
    engine = fast.engine(small.target, None, max_sequences=64, max_length=40_000, kv_reserve={"cuda:0": 0})
    torch.cuda.empty_cache()
    room, total = torch.cuda.memory_reserved(GPU) + spare * 2**20, torch.cuda.mem_get_info(GPU)[1]
    torch.cuda.set_per_process_memory_fraction(room / total, GPU)
    try:
        out = fast.finish(engine, rows)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, GPU)
    assert tiny.tokens(out, len(rows)) == small.expected
    assert 1 <= engine.stats.max_sequences < 64
