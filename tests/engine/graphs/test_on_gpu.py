"""The fast path with its kernels and recordings: python -m pytest -m gpu tests/engine/graphs/test_on_gpu.py (torch, transformers, triton)."""

import copy
import functools
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM

from specbatch.embedded import path as embedded
from specbatch.engine.general.drafter import ModelDrafter
from specbatch.engine.general.model import CausalLM
from specbatch.engine.general.ngram import NGramDrafter
from specbatch.engine.graphs import sizes
from specbatch.engine.graphs.cuda_graphs import Capture, CudaGraphRunner
from specbatch.engine.graphs.ops import why_no_kernels
from specbatch.engine.graphs.reference import TorchOps
from specbatch.engine.graphs.state import Mode
from specbatch.engine.loading.load import load_causal_lm
from specbatch.engine.margins import Contest, tie_bound
from specbatch.engine.request import SamplingParams
from tests.engine import tiny
from tests.engine.graphs import fast, joints

pytestmark = pytest.mark.gpu

GPU = torch.device("cuda", 0)
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


def embedded_prompts(count=32, shortest=8, longest=90):
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(shortest, longest, (count,), generator=generator).tolist()
    return [torch.randint(3, 512, (n,), generator=generator).tolist() for n in lengths]


def load_pair(dtype, target=None, drafter=None):
    """The embedded pair, on the first GPU unless maps say otherwise."""
    loaded = [
        load_causal_lm(str(embedded(role)), device_map=device_map or {"": str(GPU)}, dtype=dtype)
        for role, device_map in (("target", target), ("drafter", drafter))
    ]
    return SimpleNamespace(target=loaded[0], drafter=ModelDrafter(loaded[1]))


@pytest.fixture(scope="module")
def pairs():
    """The embedded pair by dtype, loaded once each."""
    loaded = {}

    def load(dtype):
        if dtype not in loaded:
            loaded[dtype] = load_pair(dtype)
        return loaded[dtype]

    return load


@functools.cache
def alone(dtype):
    """The embedded target in float32, over the weights that a run in the dtype has."""
    return AutoModelForCausalLM.from_pretrained(embedded("target"), dtype=dtype).float().to(GPU)


@torch.inference_mode()
def judged(completions, dtype):
    """Every token against the target alone: how many exact, ties, unexplained.

    The target is given each row's own tokens: where all of them are its choice, they are what it would have generated.
    """
    found = {"exact": 0, "tie": 0, "unexplained": 0}
    for completion in completions.values():
        request, tokens = completion.request, list(completion.token_ids)
        prompt = list(request.prompt_token_ids)
        logits = alone(dtype)(torch.tensor([prompt + tokens], device=GPU)).logits[0, len(prompt) - 1 : -1].cpu()
        for position, (token, likeliest, at) in enumerate(zip(tokens, logits.argmax(-1).tolist(), logits, strict=True)):
            if request.sampling.greedy and token == likeliest:
                found["exact"] += 1
                continue
            contest = Contest.of(at, request, position)
            exact = contest.winners(0.0)[:1] == [token]
            near = exact or token in contest.winners(tie_bound(dtype, at))
            found["exact" if exact else "tie" if near else "unexplained"] += 1
    return found


def recorded(engine):
    """Each step that ran twice is a recording; how many graphs the largest of them has."""
    graphs = engine.runner.pair.graphs
    assert len(graphs) > 0
    return max(len(segments) for segments in graphs._captured.values())


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
        assert recorded(engine) == 1


@pytest.mark.parametrize("rule", ["coupled", "rejection"])
def test_a_drafter_that_is_the_target_is_always_accepted(small, rule):
    rows = fast.requests(small.prompts, NEW, fast.MIXED)
    _, engine = fast.decode(
        small.target, small.twin, rows, max_sequences=5, num_speculative_tokens=4, acceptance_rule=rule
    )
    assert engine.stats.acceptance_rate > 0.999


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
        assert recorded(engine) == 1


# -- recordings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["coupled", "rejection"])
@pytest.mark.parametrize("drafts", ["model", "ngram"])
def test_replayed_graphs_do_what_the_same_steps_do_eagerly(pairs, monkeypatch, rule, drafts):
    """In bfloat16, with refills, prompts of several forwards and rows of all kinds: token for token, count for count."""
    pair = pairs("bfloat16")
    rows = fast.stopped(embedded_prompts(20, 1, 200), [24, 7, 15], fast.MIXED)
    again = fast.stopped(embedded_prompts(20, 1, 200), [24, 7, 15], fast.MIXED)
    drafter = pair.drafter if drafts == "model" else NGramDrafter()
    settings = {"max_sequences": 6, "num_speculative_tokens": 3, "max_length": 256, "acceptance_rule": rule}
    replayed, engine = fast.decode(pair.target, drafter, rows, **settings)
    assert recorded(engine) == 1

    @torch.inference_mode()
    def run(self, key, step):
        step(Capture())

    monkeypatch.setattr(CudaGraphRunner, "run", run)
    eager, engine = fast.decode(pair.target, drafter, again, **settings)
    assert len(engine.runner.pair.graphs) == 0
    assert tiny.tokens(replayed, 20) == tiny.tokens(eager, 20)
    assert fast.counts(replayed) == fast.counts(eager)


KINDS = {"greedy": [SamplingParams()], "plain": [SamplingParams(1.0)], "filtered": fast.MIXED}


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
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
    recordings = len(pair.graphs)
    torch.cuda.set_sync_debug_mode("error")
    try:
        play()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()
    assert len(pair.graphs) == recordings >= 2


def test_rows_come_and_go_without_a_wait_either(small):
    """What the host does wait for is the event of a round that it takes in."""
    rows = fast.stopped(small.prompts, [17, 5, 30], [SamplingParams(), SamplingParams(0.9)])
    engine = fast.engine(small.target, small.noisy, max_sequences=4, num_speculative_tokens=3)
    fast.finish(engine, fast.stopped(small.prompts, [17, 5, 30], [SamplingParams(), SamplingParams(0.9)]))  # records
    torch.cuda.set_sync_debug_mode("error")
    try:
        out = fast.finish(engine, rows)
    finally:
        torch.cuda.set_sync_debug_mode("default")
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
    assert joints.worst_p_value(GPU, kind, rule=rule, k=2, rows=9_000, seats=256) > joints.PASS


# -- memory --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usable", "max_length"),
    [
        (60 * 2**20, 40_000),  # of 640 MB that 64 rows could take
        (12 * 2**14, 128),  # 9 pages for the target, 3 for the drafter: rows of 1 or 2 are put back as they grow
    ],
)
def test_where_pages_are_short_rows_wait_and_no_token_changes(small, monkeypatch, usable, max_length):
    """As on a GPU that is nearly full when the engine starts."""
    monkeypatch.setattr(sizes, "_usable", lambda device: usable)
    rows = fast.requests(small.prompts, NEW)
    engine = fast.engine(small.target, small.noisy, max_sequences=64, num_speculative_tokens=3, max_length=max_length)
    assert engine.runner.pair.target_pool.pages < 64 * max_length // 64
    joined = []
    join = engine.runner.prefill
    monkeypatch.setattr(engine.runner, "prefill", lambda rows: joined.extend(rows) or join(rows))
    out = fast.finish(engine, rows)
    assert tiny.tokens(out, len(rows)) == small.expected
    assert len(joined) > len(rows) or max_length > 128


def test_a_gpu_that_fills_up_meanwhile_halves_the_seats_and_changes_no_token(small, monkeypatch):
    monkeypatch.setattr(sizes, "_RESERVE", 0)
    rows = fast.requests(small.prompts, NEW)
    # 64 rows of 40,000 positions take 640 MB of pages; recording a forward of 4096 tokens takes some MB more.
    engine = fast.engine(small.target, None, max_sequences=64, max_length=40_000, graphs_prefill_chunk=4096)
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(GPU)
    hog = torch.empty(free - 12 * 2**20, dtype=torch.uint8, device=GPU)
    try:
        out = fast.finish(engine, rows)
    finally:
        del hog
        torch.cuda.empty_cache()
    assert tiny.tokens(out, len(rows)) == small.expected
    assert 1 <= engine.stats.max_sequences < 64


# -- several GPUs --------------------------------------------------------------------------------------------------------


def layers_over(devices, layers=16):
    """An explicit map: embedding (and the tied head) first, layers in even stretches."""
    return {
        "model.embed_tokens": devices[0],
        "lm_head": devices[0],
        "model.norm": devices[-1],
        "model.rotary_emb": devices[0],
        **{f"model.layers.{i}": devices[i * len(devices) // layers] for i in range(layers)},
    }


@pytest.fixture(scope="module")
def on_one(pairs):
    """What one GPU gives in float32."""
    pair = pairs("float32")
    return placed(pair)[0]


def placed(pair):
    rows = fast.requests(embedded_prompts(16, 8, 200), 32, [SamplingParams(), SamplingParams(0.8)])
    out, engine = fast.decode(
        pair.target, pair.drafter, rows, max_sequences=6, num_speculative_tokens=4, max_length=256
    )
    return tiny.tokens(out, 16), engine


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("drafter_device", ["cuda:0", "cuda:1"])
@pytest.mark.parametrize("target_devices", [["cuda:0"], ["cuda:1"], ["cuda:0", "cuda:1"]])
def test_placements_over_two_gpus_give_the_same_tokens_by_recorded_graphs(target_devices, drafter_device, on_one):
    target_map = layers_over(target_devices) if len(target_devices) > 1 else {"": target_devices[0]}
    pair = load_pair("float32", target_map, {"": drafter_device})
    tokens, engine = placed(pair)
    assert tokens == on_one
    assert engine.stats.accepted > 0
    apart = len({*target_devices, drafter_device}) > 1
    assert (recorded(engine) > 1) == apart
    stages = [stage.device for stage in engine.runner.pair.target.stages]
    assert stages == [torch.device(device) for device in target_devices]
    assert torch.cuda.current_device() == 0
