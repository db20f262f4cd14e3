"""Weights of four bits as checkpoints have them: groups of any size, zero points, scales in float16."""

import pytest
import torch

from specbatch.engine.graphs.kernels.linears import linear
from specbatch.engine.graphs.kernels.linears.linear_configs import Config
from specbatch.engine.graphs.kernels.linears.linear_dense import wide
from specbatch.engine.graphs.reference import TorchOps
from specbatch.engine.graphs.triton_ops import TritonOps
from specbatch.engine.quantization.rounding import packed_int4
from specbatch.engine.quantization.weight import QuantizedWeight
from tests.engine.graphs.kernels.linears.test_linear import DEVICE, DOT_OPS, OPS, close, gated

HALF = torch.float16


def packed(outs, ins, group, dtype, *, zeros, seed=0):
    draw = torch.Generator().manual_seed(seed)
    numbers = torch.randint(-8, 8, (outs, ins), generator=draw, dtype=torch.int8)
    scales = (torch.rand(outs, ins // group, generator=draw) + 0.5) * ins**-0.5 / 4
    zero = torch.randint(-8, 9, scales.shape, generator=draw) if zeros else torch.zeros_like(scales)
    return QuantizedWeight(packed_int4(numbers).to(DEVICE), torch.stack([scales, zero], -1).to(DEVICE, dtype))


def arguments(tokens, outs, ins, group, dtype, *, zeros):
    """Of each operation, and the same in float32."""
    draw = torch.Generator().manual_seed(tokens)
    x, norm, bias, residual = (
        torch.randn(*shape, generator=draw).to(DEVICE, dtype)
        for shape in ((tokens, ins), (ins,), (outs,), (tokens, outs))
    )
    weight = packed(outs, ins, group, dtype, zeros=zeros)
    gates = packed(2 * outs, ins, group, dtype, zeros=zeros, seed=1)

    def named(x, norm, bias, residual, weight, gates):
        return {
            "linear": (x, weight, bias),
            "norm_linear": (x, norm, 1e-6, weight, bias),
            "linear_add": (x, weight, residual),
            "norm_gated": (x, norm, 1e-6, gates),
            "gated": (x, gates),
        }

    wide = [tensor.float() for tensor in (x, norm, bias, residual)]
    dense = weight.dense(torch.float32), gates.dense(torch.float32)
    return named(x, norm, bias, residual, weight, gates), named(*wide, *dense)


CASES = [(32, 192, True), (128, 512, True), (128, 768, False)]  # inputs of a group, and all


@pytest.mark.slow
@pytest.mark.parametrize(("group", "ins", "zeros"), CASES)
@pytest.mark.parametrize("tokens", [1, 2, 9])
def test_operations_multiply_what_packed_weights_stand_for(tokens, group, ins, zeros):
    ours, reference = arguments(tokens, 24, ins, group, HALF, zeros=zeros)
    for op in OPS:
        expected = getattr(TorchOps(), op)(*reference[op])
        close(getattr(TritonOps(), op)(*ours[op]), expected, HALF)


@pytest.mark.slow
@pytest.mark.parametrize("block_k", [64, 256])
@pytest.mark.parametrize("zeros", [False, True])
def test_a_step_of_the_tensor_cores_may_be_a_part_of_a_group_or_several(block_k, zeros):
    for split in (1, 2):
        config = Config(32, block_k, 4, 2, split=split)
        ours, reference = arguments(5, 24, 512, 128, torch.bfloat16, zeros=zeros)
        for op in DOT_OPS if split == 1 else DOT_OPS[:2]:
            expected = gated(*reference[op]) if op == "gated" else getattr(TorchOps(), op)(*reference[op])
            close(getattr(linear, op)(*ours[op], config=config), expected, torch.bfloat16)


@pytest.mark.parametrize("zeros", [False, True])
def test_one_token_of_a_checkpoint_keeps_16_bits_of_its_inputs(zeros):
    ours, reference = arguments(1, 24, 512, 128, torch.float32, zeros=zeros)
    got, expected = linear.linear(*ours["linear"]), TorchOps().linear(*reference["linear"])
    assert float((got - expected).norm() / expected.norm()) < 3e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, HALF], ids=str)
@pytest.mark.parametrize(("group", "ins", "zeros"), [(32, 192, False), (64, 1152, True), (128, 512, True)])
def test_weights_made_wide_are_what_they_stand_for_to_the_last_bit(dtype, group, ins, zeros):
    weight = packed(20, ins, group, dtype, zeros=zeros)
    assert torch.equal(wide(weight, torch.empty(1, ins, dtype=dtype, device=DEVICE)), weight.dense(dtype))


@pytest.mark.slow
def test_operations_on_many_tokens_make_weights_wide():
    ours, reference = arguments(260, 24, 192, 32, HALF, zeros=True)
    for op in OPS:
        expected = getattr(TorchOps(), op)(*reference[op])
        close(getattr(TritonOps(), op)(*ours[op]), expected, HALF)
