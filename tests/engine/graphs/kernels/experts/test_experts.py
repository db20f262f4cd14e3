"""Products of experts, for few and many tokens, against their reference in PyTorch."""

import pytest
import torch

pytest.importorskip("triton")

from specbatch.engine.graphs.describe.description import Activation, Routing
from specbatch.engine.graphs.experts.operations import Routed
from specbatch.engine.graphs.kernels.experts import few as by_pair
from specbatch.engine.graphs.kernels.experts import grouping
from specbatch.engine.graphs.kernels.experts import many as by_expert
from specbatch.engine.graphs.reference import TorchOps
from specbatch.engine.graphs.triton_ops import TritonOps
from tests.engine.graphs.kernels.test_elementwise import DEVICE, DTYPES, random

NEAR = {torch.float32: 2e-5, torch.float16: 1e-2, torch.bfloat16: 6e-2}


def case(tokens, hidden, inner, count, each, dtype):
    """Inputs, where every third token is filler."""
    logits = random(tokens, count)
    slots = torch.arange(tokens, device=DEVICE) % 3
    chooses = torch.eye(count, device=DEVICE), None, Routing(count, each, normed=True), slots, 2
    routed = TorchOps().route(logits, None, 0.0, *chooses)[2]
    gate_up = random(count, 2 * inner, hidden, dtype=dtype, seed=1) * hidden**-0.5
    down = random(count, hidden, inner, dtype=dtype, seed=2) * inner**-0.5
    return random(tokens, hidden, dtype=dtype, seed=3), routed, gate_up, down


def few(x, routed, gate_up, down, activation, residual):
    return by_pair.experts(x, *routed, gate_up, down, activation, residual)


def many(x, routed, gate_up, down, activation, residual, size=8):
    pairs = grouping.group(routed.experts, len(gate_up), size)
    fed = by_expert.gate_up(x, pairs, routed.experts.shape[1], gate_up, activation)
    return by_expert.combine(by_expert.down(fed, pairs, down), *routed, len(gate_up), residual)[0]


@pytest.mark.slow
@pytest.mark.parametrize("run", [few, many])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("tokens", "hidden", "inner", "count", "each"), [(1, 32, 8, 4, 2), (3, 24, 12, 3, 2)])
def test_experts_are_the_references(run, tokens, hidden, inner, count, each, dtype):
    inputs = case(tokens, hidden, inner, count, each, dtype)
    residual = random(tokens, hidden, dtype=dtype, seed=5)
    for activation in (Activation(), Activation("gelu_tanh")):
        for before in (residual, None):
            ours = run(*inputs, activation, before)
            theirs, _ = TorchOps().experts(*inputs, activation, before)
            assert ours.dtype == dtype
            torch.testing.assert_close(ours, theirs, rtol=NEAR[dtype], atol=NEAR[dtype])


@pytest.mark.parametrize("held", [4, 0])
def test_experts_wider_than_a_tile_are_the_references(held, monkeypatch):
    """Whether all weights of the second kernel are asked for ahead or not."""
    monkeypatch.setattr(by_pair, "_AHEAD", held)
    inputs, residual = case(1, 40, 24, 3, 2, torch.float32), random(1, 40, seed=5)
    ours = by_pair.experts(
        *inputs[:1], *inputs[1], *inputs[2:], Activation(), residual, tiles=((8, 16, 1), (16, 16, 1))
    )
    torch.testing.assert_close(ours, TorchOps().experts(*inputs, Activation(), residual)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_an_expert_of_more_tokens_than_a_block_holds():
    x, _, gate_up, down = case(30, 32, 16, 2, 1, torch.float32)
    experts = torch.zeros(30, 1, dtype=torch.int32, device=DEVICE)
    routed = Routed(torch.ones(30, 1, device=DEVICE), experts)
    theirs, _ = TorchOps().experts(x, routed, gate_up, down, Activation(), None)
    for size in by_expert.SIZES:
        torch.testing.assert_close(
            many(x, routed, gate_up, down, Activation(), None, size), theirs, rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("run", [few, many])
def test_a_filler_reads_no_expert(run):
    """What nobody is routed to may hold anything."""
    x, routed, gate_up, down = case(3, 32, 16, 4, 2, torch.float32)
    used = set(routed.experts[:2].flatten().tolist())
    for expert in set(range(4)) - used:
        gate_up[expert] = down[expert] = float("nan")
    x[2] = float("nan")
    out = run(x, routed, gate_up, down, Activation(), None)
    assert out[:2].isfinite().all()
    assert out[2].eq(0).all()


def test_a_norm_that_comes_next_is_the_references():
    inputs = case(6, 64, 32, 4, 2, torch.float32)
    residual, norm = random(6, 64, seed=5), random(64, seed=6)
    out, ahead = TritonOps().experts(*inputs, Activation(), residual, norm, 1e-5)
    torch.testing.assert_close(ahead.x, TorchOps().rms_norm(out, norm, 1e-5))


@pytest.mark.parametrize(
    ("pairs", "experts", "size"),
    [(40, 128, 8), (256, 128, 8), (1024, 128, 16), (4096, 128, 64), (16384, 128, 64), (8, 8, 8)],
)
def test_a_block_holds_what_an_expert_has_in_most_cases(pairs, experts, size):
    assert by_expert.block_size(pairs, experts) == size
