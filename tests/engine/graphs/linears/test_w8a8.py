"""Kernels of FP8 linears against the reference; on a GPU, or in Triton's interpreter, whose FP8 is cut off, not rounded."""

from dataclasses import replace

import pytest
import torch

pytest.importorskip("triton")

from specbatch.engine.fp8.w8a8 import FP8, round_inputs
from specbatch.engine.graphs.kernels.linears.linear_limits import VOCABULARY
from specbatch.engine.graphs.linears import w8a8, w8a8_dense
from specbatch.engine.graphs.linears.w8a8_ops import W8A8Ops
from specbatch.engine.graphs.reference import TorchOps
from specbatch.engine.quantization.weight import QuantizedWeight, multiply
from tests.engine.fp8.checkpoints import quantized

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
pytestmark = pytest.mark.skipif(CUDA and torch.cuda.get_device_capability() < (8, 9), reason="the GPU has no FP8")
OUTS, INS = 96, 300
BLOCKS = {"blocks": ((128, 128), 128), "narrow blocks": ((32, 128), 128), "channels": ((1, INS), INS)}
BLOCKS |= {"channels, inputs in groups": ((1, INS), 128), "one scale": ((OUTS, INS), INS)}


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def weight(kind, outs=OUTS):
    block, group = BLOCKS[kind]
    found = quantized(normal(outs, INS).cpu() * INS**-0.5, block, group)
    return type(found)(found.values.to(DEVICE), found.scales.to(DEVICE), found.rows, found.columns, found.group)


def ready(x, group):
    """Inputs, rounded by the reference, as the kernels take them."""
    values, scales = round_inputs(x, group)
    return w8a8.Rounded(values, scales.t().contiguous().t(), x.dtype)


def off(got, expected):
    return float((got.float() - expected.float()).norm() / expected.float().norm())


@pytest.mark.slow
@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("tokens", [1, 2, 5, 40, 70])
def test_rounded_inputs_are_multiplied_as_the_reference_multiplies_them(kind, tokens):
    few_bits = CUDA and tokens > 2  # of sums of FP8 on Hopper
    for dtype, bound in ((torch.float32, 2e-3 if few_bits else 1e-6), (torch.bfloat16, 6e-3)):
        x, few = normal(tokens, INS, seed=1).to(dtype), weight(kind)
        inputs = ready(x, few.group)
        bias, residual = normal(OUTS, seed=2).to(dtype), normal(tokens, OUTS, seed=3).to(dtype)
        assert w8a8.takes(x, few)
        assert off(w8a8.linear(inputs, few, bias), multiply(x, few, bias)) < bound
        assert off(w8a8.linear(inputs, few, residual=residual), residual + multiply(x, few)) < bound


@pytest.mark.parametrize("kind", ["blocks", pytest.param("channels", marks=pytest.mark.slow)])
@pytest.mark.parametrize("tokens", [1, pytest.param(9, marks=pytest.mark.slow)])
def test_gates_and_ups_have_scales_of_their_own(kind, tokens):
    x, both = normal(tokens, INS, seed=1), weight(kind, 2 * 128)
    gate, up = multiply(x, both).chunk(2, dim=-1)
    got, _ = w8a8.gated(ready(x, both.group), both)
    few_bits = CUDA and tokens > 2  # of sums of FP8 on Hopper
    assert off(got, torch.nn.functional.silu(gate) * up) < (2e-3 if few_bits else 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("split", [2, 3])
def test_split_inputs_are_summed(split):
    x, few = normal(5, INS, seed=1), weight("blocks")
    inputs = ready(x, few.group)
    for _ in range(2):
        config = w8a8.Config(64, 16, 4, 2, split=split)
        assert off(w8a8.linear(inputs, few, config=config), multiply(x, few)) < (2e-3 if CUDA else 1e-6)


@pytest.mark.parametrize("group", [128, INS])
def test_inputs_are_rounded_under_the_references_scales(group):
    x, norm = normal(3, INS), normal(INS, seed=1)
    for wide, got in (
        (x, w8a8.rounded(x, group)),
        (TorchOps().rms_norm(x, norm, 1e-6), w8a8.rounded(x, group, norm, 1e-6)),
    ):
        values, scales = round_inputs(wide, group)
        assert torch.allclose(got.scales, scales, rtol=1e-6)
        if CUDA:
            apart = (got.values.float() - values.float()).abs()
            assert bool((apart <= (values.float().abs() / 8).clamp(min=2**-9)).all())
            assert (apart > 0).float().mean() < 1e-2


def test_tokens_have_a_kernel_at_every_number_of_outputs():
    for tokens in (1, 2, 3, 17, 64, 65, 128, 1000, 8192):
        for outs in (64, 1024, 4096, 6144, 24576):
            for gated in (False, True):
                config = w8a8.configured(tokens, outs, 4096, gated=gated, rounds=gated)
                tiles = -(-outs // config.block_n) * -(-tokens // config.block_t)
                cells = tiles * config.split * config.block_n * config.block_t * (1 + gated)
                assert config.split == 1 or cells <= 1 << 21


@pytest.mark.slow
def test_many_tokens_are_multiplied_by_weights_that_are_widened():
    x, norm = normal(w8a8.WIDE + 1, INS, seed=1), normal(INS, seed=2)
    for kind in BLOCKS:
        few = weight(kind)
        wide = w8a8_dense.widened(few, torch.float32)
        assert torch.allclose(wide, few.dense(torch.float32), rtol=1e-6)
    bound = 2e-2 if CUDA else 0.1  # the interpreter rounds otherwise
    assert off(W8A8Ops().norm_linear(x, norm, 1e-6, few), TorchOps().norm_linear(x, norm, 1e-6, few)) < bound


@pytest.mark.slow
def test_operations_take_any_weights():
    ops, x, norm = W8A8Ops(), normal(2, INS, seed=1), normal(INS, seed=2)
    few, wide, residual = weight("blocks"), normal(OUTS, INS), normal(2, OUTS, seed=3)
    assert torch.allclose(ops.norm_linear(x, norm, 1e-6, wide), TorchOps().norm_linear(x, norm, 1e-6, wide), atol=1e-3)
    bound = 2e-2 if CUDA else 0.1  # the interpreter rounds otherwise
    assert off(ops.norm_linear(x, norm, 1e-6, few), TorchOps().norm_linear(x, norm, 1e-6, few)) < bound
    assert off(ops.linear(x, few), TorchOps().linear(x, few)) < bound
    added, ahead = ops.linear_add_ahead(x, few, residual, normal(OUTS), few)
    assert ahead is None
    assert off(added, TorchOps().linear_add(x, few, residual)) < bound
    _, ahead = ops.linear_add_ahead(x, wide, residual.clone(), normal(OUTS), few)
    assert ahead is None
    assert off(ops.norm_gated(x, norm, 1e-6, few), TorchOps().norm_gated(x, norm, 1e-6, few)) < 2 * bound


@pytest.mark.slow
@pytest.mark.parametrize("ahead", [1, 2])
def test_weights_may_be_asked_for_before_the_inputs_are_there(ahead):
    x, both, residual = normal(5, 512, seed=1), normal(256, 512, seed=2) * 512**-0.5, normal(5, 256, seed=3)
    found = quantized(both.cpu(), (128, 128), 128)
    both = type(found)(found.values.to(DEVICE), found.scales.to(DEVICE), found.rows, found.columns, found.group)
    for _ in range(2):
        config = w8a8.Config(64, 16, 4, 2, split=2, ahead=ahead)
        bound = 2e-3 if CUDA else 1e-6
        assert (
            off(w8a8.linear(ready(x, 128), both, residual=residual, config=config), residual + multiply(x, both))
            < bound
        )
        gate, up = multiply(x, both).chunk(2, dim=-1)
        out, _ = w8a8.gated(ready(x, 128), both, config=config)
        assert off(out, torch.nn.functional.silu(gate) * up) < bound


@pytest.mark.parametrize("kind", ["blocks", pytest.param("channels", marks=pytest.mark.slow)])
def test_a_program_of_one_token_rounds_its_inputs(kind):
    few, x, norm = weight(kind), normal(1, INS, seed=1), normal(INS, seed=2)
    inputs = w8a8.inputs(x, few, norm, 1e-6)
    assert inputs.scales is None
    bound = 2e-2 if CUDA else 0.1  # the interpreter rounds otherwise
    assert off(w8a8.linear(inputs, few), TorchOps().norm_linear(x, norm, 1e-6, few)) < bound
    assert off(w8a8.linear(w8a8.inputs(x, few), few), multiply(x, few)) < bound


@pytest.mark.slow
@pytest.mark.parametrize("split", [1, 2])
def test_gates_are_rounded_for_the_linear_that_follows(split):
    x, both = normal(5, 512, seed=1), normal(2 * 256, 512, seed=2) * 512**-0.5
    found = quantized(both.cpu(), (128, 128), 128)
    both = type(found)(found.values.to(DEVICE), found.scales.to(DEVICE), found.rows, found.columns, found.group)
    for _ in range(2):
        config = w8a8.Config(128, 16, 4, 2, split=split)
        out, rounded = w8a8.gated(ready(x, 128), both, group=128, config=config)
        gate, up = multiply(x, both).chunk(2, dim=-1)
        assert off(out, torch.nn.functional.silu(gate) * up) < (2e-3 if CUDA else 1e-5)
        values, scales = round_inputs(out, 128)
        assert torch.allclose(rounded.scales, scales, rtol=1e-6)
        wide = values.float() * scales.repeat_interleave(128, 1)
        got = rounded.values.float() * rounded.scales.repeat_interleave(128, 1)
        assert off(got, wide) < (1e-3 if CUDA else 0.1)  # the interpreter rounds otherwise


@pytest.mark.slow
def test_what_a_gates_kernel_has_rounded_is_not_rounded_again(monkeypatch):
    def of(outs, ins, seed):
        found = quantized(normal(outs, ins, seed=seed).cpu() * ins**-0.5, (128, 128), 128)
        return type(found)(found.values.to(DEVICE), found.scales.to(DEVICE), found.rows, found.columns, found.group)

    ops, x, norm = W8A8Ops(), normal(9, 128, seed=1), normal(128, seed=2)
    gate_up, down, residual = of(512, 128, 3), of(128, 256, 4), normal(9, 128, seed=5)
    fed = ops.norm_gated(x, norm, 1e-6, gate_up, following=down)
    monkeypatch.setattr(w8a8, "rounded", None)
    added = ops.linear_add(fed, down, residual)
    assert off(added, TorchOps().linear_add(fed, down, residual)) < (
        2e-2 if CUDA else 0.1
    )  # the interpreter rounds otherwise


def test_a_vocabulary_is_never_made_wide():
    few = torch.empty(VOCABULARY, 40, dtype=FP8, device="meta"), torch.empty(VOCABULARY // 128, 1, device="meta")
    head = QuantizedWeight(*few, 128, 128, 128)
    assert not w8a8.dense(w8a8.WIDE + 1, head, torch.bfloat16)
    assert w8a8.dense(w8a8.WIDE + 1, replace(head, values=few[0][1:]), torch.bfloat16)
