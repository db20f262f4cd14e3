"""Products of FP8 weights and inputs, against their definition written out for each group."""

import pytest
import torch

from specbatch.engine.fp8.w8a8 import FP8, LARGEST, round_inputs
from specbatch.engine.quantization.weight import multiply
from tests.engine.fp8.checkpoints import quantized

OUTS, INS = 200, 300  # no multiples of 128


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("block", "group"), [((128, 128), 128), ((1, INS), INS), ((OUTS, INS), INS)], ids=str)
def test_inputs_and_weights_are_multiplied_as_rounded_and_scaled_group_by_group(block, group):
    weight, x, bias = quantized(normal(OUTS, INS), block, group), normal(3, INS, seed=1), normal(OUTS, seed=2)
    values, scales = round_inputs(x, group)
    expected = torch.zeros(3, OUTS, dtype=torch.float64)
    for first in range(0, INS, group):
        part = slice(first, first + group)
        products = values[:, part].double() @ weight.values[:, part].double().t()
        of_weights = weight.scales[torch.arange(OUTS) // block[0], first // block[1]]
        expected += products * scales[:, first // group, None] * of_weights
    assert torch.allclose(multiply(x, weight, bias).double(), expected + bias, rtol=1e-5, atol=1e-4)


def test_what_is_rounded_is_within_half_a_step_of_fp8():
    x = normal(4, INS)
    values, scales = round_inputs(x, 128)
    assert values.dtype == FP8
    back = values.float() * scales.repeat_interleave(128, 1)[:, :INS]
    assert (((back - x).abs() <= x.abs() * 2**-4) | ((back - x).abs() <= scales.max() * 2**-9)).all()
    assert values.float().abs().amax() == LARGEST


def test_inputs_of_zeros_stay_zeros():
    weight = quantized(normal(OUTS, INS), (128, 128), 128)
    assert torch.equal(multiply(torch.zeros(2, INS), weight), torch.zeros(2, OUTS))


def test_without_a_group_inputs_stay_as_they_are():
    weight, x = quantized(normal(OUTS, INS), (128, 128)), normal(2, INS, seed=1)
    assert torch.allclose(multiply(x, weight), x @ weight.dense(torch.float32).t(), atol=1e-5)
    rounded = quantized(normal(OUTS, INS), (128, 128), 128)
    assert not torch.allclose(multiply(x, weight), multiply(x, rounded), atol=1e-3)
