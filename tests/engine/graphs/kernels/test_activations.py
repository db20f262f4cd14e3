"""Activations, gates and caps against their reference in PyTorch, each activation that a description knows."""

import pytest
import torch

pytest.importorskip("triton")

from specbatch.engine.graphs.describe.description import SILU, Activation
from specbatch.engine.graphs.kernels.activations import CODES, activate, gate, softcap
from specbatch.engine.graphs.kernels.linears.linear import ahead_gated, gated, linear_add_ahead, norm_gated
from specbatch.engine.graphs.reference import TorchOps
from tests.engine.graphs.kernels.test_elementwise import DEVICE, DTYPES, assert_equal_but_for_a_rounding, random

XIELU = Activation("xielu", (0.9, 1.1, 0.5, -1e-6))
KINDS = [*(Activation(name) for name in ("silu", "gelu_tanh", "gelu", "relu2")), XIELU]
GATES = KINDS[:3]


def close(ours, theirs):
    """exp and erf are not PyTorch's to the last bit."""
    near = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}[ours.dtype]
    assert ours.dtype == theirs.dtype
    torch.testing.assert_close(ours, theirs, rtol=near, atol=near)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("count", "size"), [(1, 64), (1, 1500), (17, 96), (20, 2100), (0, 64)])
def test_a_silu_gate_is_the_references(count, size, dtype):
    gate_up = random(count, 2 * size, dtype=dtype) * 5
    left, up = gate_up.chunk(2, dim=-1)
    assert_equal_but_for_a_rounding(gate(gate_up), torch.nn.functional.silu(left) * up)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")  # of NumPy in the interpreter
def test_silu_of_what_exp_overflows_on_is_zero():
    gate_up = torch.tensor([[-200.0, 200.0, 2.0, 2.0]], device=DEVICE)
    assert gate(gate_up).tolist() == [[0.0, 400.0]]


def test_every_activation_has_a_code():
    assert [kind.name for kind in KINDS] == list(CODES)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("dtype", DTYPES)
def test_activations_and_their_gates_are_the_references(kind, dtype):
    x = torch.cat([random(3, 80, dtype=dtype) * 4, random(3, 80, dtype=dtype) * 1e-3])
    close(activate(x, kind), TorchOps().activate(x, kind))
    close(gate(x, kind), TorchOps().gate(x, kind))


@pytest.mark.parametrize("kind", GATES, ids=lambda kind: kind.name)
def test_a_gate_is_folded_into_its_linear(kind):
    ops, x, weight, norm = TorchOps(), random(2, 32), random(48, 32, seed=1), random(32, seed=2)
    close(gated(x, weight, kind), ops.norm_gated(x, None, 0.0, weight, activation=kind))
    for tokens in (x[:1], x):
        expected = ops.norm_gated(tokens, norm, 1e-6, weight, activation=kind)
        torch.testing.assert_close(norm_gated(tokens, norm, 1e-6, weight, kind), expected, rtol=1e-4, atol=1e-4)
    total, *ahead = linear_add_ahead(x, random(32, 32, seed=3), random(2, 32, seed=4), norm)
    expected = ops.norm_gated(total, norm, 1e-6, weight, activation=kind)
    torch.testing.assert_close(ahead_gated(*ahead, 1e-6, weight, kind), expected, rtol=1e-4, atol=1e-4)


def test_a_norm_that_is_wider_than_its_input_is_folded_in():
    x, weight, norm = (
        random(1, 32, dtype=torch.float16),
        random(48, 32, dtype=torch.float16, seed=1),
        random(32, seed=2),
    )
    ours, theirs = norm_gated(x, norm, 1e-6, weight, SILU), TorchOps().norm_gated(x, norm, 1e-6, weight)
    torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=2e-2)  # products of roundings in other places


@pytest.mark.parametrize("dtype", DTYPES)
def test_caps_are_the_references(dtype):
    x = random(3, 700, dtype=dtype) * 40
    close(softcap(x, 30.0) / 30, TorchOps().softcap(x, 30.0) / 30)
    far = torch.tensor([[1e4, -1e4, 0.0, 1e-4]], device=DEVICE)
    torch.testing.assert_close(softcap(far, 30.0), torch.tensor([[30.0, -30.0, 0.0, 1e-4]], device=DEVICE))
