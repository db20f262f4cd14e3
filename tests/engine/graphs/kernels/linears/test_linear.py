from dataclasses import replace
from itertools import product

import pytest
import torch

from specbatch.engine.graphs.kernels.linears import linear
from specbatch.engine.graphs.kernels.linears.linear_configs import BRIEF, DOT_TOKENS, Config, configured, padded
from specbatch.engine.graphs.reference import TorchOps
from specbatch.engine.graphs.triton_ops import TritonOps
from specbatch.engine.quantization.rounding import quantize
from tests.engine.fp8 import checkpoints

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
FMA = Config(64, 32, 4, fma=True)
DOT = Config(64, 128, 4, 2)
SIZES = [(48, 32), (576, 100), (48, 576), (32, 3072)]  # outputs, inputs


def tensors(tokens, outs, ins, dtype):
    """x, norm, weight, bias, residual, gate_up."""
    draw = torch.Generator().manual_seed(tokens * outs + ins)

    def normal(*shape, scale=1.0):
        return (torch.randn(*shape, generator=draw) * scale).to(DEVICE, dtype)

    scale = ins**-0.5
    return (
        normal(tokens, ins),
        normal(ins),
        normal(outs, ins, scale=scale),
        normal(outs),
        normal(tokens, outs),
        normal(2 * outs, ins, scale=scale),
    )


def close(got, expected, dtype):
    """`expected` is computed in float32 from the same inputs."""
    assert got.dtype == dtype
    assert got.shape == expected.shape
    error = (got.float() - expected).norm() / expected.norm()
    assert error < (2.5e-2 if dtype.itemsize == 2 else 1e-5), error


def check(op, values, dtype, **kwargs):
    """One op against the reference; a bias or residual comes along."""
    x, norm, weight, bias, residual, gate_up = values
    arguments = {
        "linear": (x, weight, bias),
        "norm_linear": (x, norm, 1e-6, weight, bias),
        "linear_add": (x, weight, residual),
        "norm_gated": (x, norm, 1e-6, gate_up),
        "gated": (x, gate_up),
    }[op]
    wide = [a.float() if isinstance(a, torch.Tensor) else a for a in arguments]
    got = getattr(linear, op)(*arguments, **kwargs)
    close(got, gated(*wide) if op == "gated" else getattr(TorchOps(), op)(*wide), dtype)
    return got


def gated(x, gate_up):
    gate, up = TorchOps().linear(x, gate_up).chunk(2, dim=-1)
    return torch.nn.functional.silu(gate) * up


OPS = ["linear", "norm_linear", "linear_add", "norm_gated"]
DOT_OPS = ["linear", "linear_add", "gated"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("op", DOT_OPS)
@pytest.mark.parametrize(
    ("tokens", "size"), [*zip((3, 9, 17), SIZES[:3], strict=True), pytest.param(64, SIZES[3], marks=pytest.mark.slow)]
)
def test_tensor_cores_give_the_reference(op, dtype, tokens, size):
    check(op, tensors(tokens, *size, dtype), dtype, config=DOT)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("tokens", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_registers_give_the_reference(op, dtype, tokens):
    for outs, ins in SIZES:
        check(op, tensors(tokens, outs, ins, dtype), dtype, config=FMA)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("ins", [1, 24, pytest.param(1000, marks=pytest.mark.slow)])
def test_registers_hold_any_number_of_inputs(op, ins):
    check(op, tensors(2, 40, ins, torch.float32), torch.float32)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("tokens", [1, 2])
def test_a_program_in_registers_has_no_more_weights_than_they_hold(tokens, gated):
    for outs, ins in product((64, 1024, 3072, 4096, 28672, 151936), (576, 1024, 3072, 4096, 12288, 28672)):
        use = configured(tokens, outs, ins, 2, gated=gated)
        if use.fma:
            assert use.block_k <= ins < 2 * use.block_k
            assert use.block_n * (1 + gated) * ins <= 256 * 32 * use.warps
        else:
            assert tokens == 2
            assert outs * (1 + gated) * ins * 2 >= BRIEF


@pytest.mark.parametrize(("op", "tokens"), [*product(OPS, [1]), *product(DOT_OPS, [2, 5, 16, 33])])
def test_the_table_has_a_configuration_for_every_size(op, tokens):
    check(op, tensors(tokens, 20, 96, torch.bfloat16), torch.bfloat16)


@pytest.mark.slow
@pytest.mark.parametrize("split", [3, *(pytest.param(split, marks=pytest.mark.slow) for split in (2, 4))])
def test_split_inputs_are_summed_and_counters_left_at_zero(split):
    values = tensors(6, 48, 576, torch.float32)
    for op in ("linear", "linear_add"):
        config = Config(16, 64, 4, 2, split=split)
        first = check(op, values, torch.float32, config=config)
        for _ in range(2):
            assert torch.equal(check(op, values, torch.float32, config=config), first)
    assert not linear.scratch_of(values[0].device)[1].any()


def test_rows_do_not_depend_on_how_many_there_are():
    x, _, weight, *_ = tensors(8, 48, 576, torch.bfloat16)
    whole = linear.linear(x, weight, config=DOT)
    assert torch.equal(whole[:3], linear.linear(x[:3].contiguous(), weight, config=DOT))


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)], ids=str
)
@pytest.mark.parametrize("split", [1, 3])
@pytest.mark.parametrize(
    "tokens", [2, pytest.param(5, marks=pytest.mark.slow), 16, pytest.param(20, marks=pytest.mark.slow)]
)
def test_a_norm_between_two_linears_is_handed_on(tokens, split, dtype):
    x, _, weight, _, residual, _ = tensors(tokens, 72, 576, dtype)
    _, norm, after, bias, _, gate_up = tensors(tokens, 40, 72, dtype)
    config = Config(16, 64, 4, 2, split=split)
    total, *ahead = linear.linear_add_ahead(x, weight, residual, norm, config=config)
    close(total, TorchOps().linear_add(x.float(), weight.float(), residual.float()), dtype)
    wide = total.float(), norm.float(), 1e-6
    close(
        linear.ahead_linear(*ahead, 1e-6, after, bias),
        TorchOps().norm_linear(*wide, after.float(), bias.float()),
        dtype,
    )
    close(linear.ahead_gated(*ahead, 1e-6, gate_up), TorchOps().norm_gated(*wide, gate_up.float()), dtype)


@pytest.mark.slow
def test_inputs_of_a_handed_on_norm_may_be_split_too():
    x, _, weight, _, residual, _ = tensors(5, 576, 72, torch.float32)
    _, norm, after, bias, _, _ = tensors(5, 40, 576, torch.float32)
    total, *ahead = linear.linear_add_ahead(x, weight, residual, norm)
    got = linear.ahead_linear(*ahead, 1e-6, after, bias, config=Config(16, 64, 4, 2, split=3))
    close(got, TorchOps().norm_linear(total, norm, 1e-6, after, bias), torch.float32)


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [1, 6, 20, 70])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_ops_give_the_reference_however_many_tokens(tokens, dtype):
    x, norm, weight, bias, residual, gate_up = tensors(tokens, 24, 40, dtype)
    ops, reference = TritonOps(), TorchOps()
    for op, arguments in {
        "linear": (x, weight, bias),
        "norm_linear": (x, norm, 1e-6, weight, bias),
        "linear_add": (x, weight, residual),
        "norm_gated": (x, norm, 1e-6, gate_up),
    }.items():
        wide = [a.float() if isinstance(a, torch.Tensor) else a for a in arguments]
        expected = getattr(reference, op)(*wide)  # before the residual is added to
        close(getattr(ops, op)(*arguments), expected, dtype)


def test_split_fits_the_scratch_of_every_model():
    for outs in (32, 576, 1024, 2048, 3072, 4096, 8192, 151936):
        for ins in (64, 1536, 2048, 4096, 6144, 12288, 28672):
            for tokens in range(1, 65):
                use = configured(tokens, outs, ins, 2)
                block_t = next(size for size in DOT_TOKENS if tokens <= size)
                tiles = -(-outs // use.block_n)
                assert use.split == 1 or tiles <= linear.TILES
                assert use.split == 1 or tiles * use.split * use.block_n * block_t <= linear.SCRATCH


QUANTIZATIONS = ["int8", "fp8", "int4"]  # fp8 of a checkpoint with weights alone; what quantize makes is test_w8a8.py's


def rounded(weight, quantization):
    if quantization != "fp8":
        return quantize(weight, quantization)
    few = checkpoints.quantized(weight.cpu(), (1, weight.shape[1]))
    return replace(few, values=few.values.to(DEVICE), scales=few.scales.to(DEVICE))


def quantized(tokens, outs, ins, dtype, quantization):
    """Arguments of the operations by name, their weights quantized, and the same in float32."""
    x, norm, weight, bias, residual, gate_up = tensors(tokens, outs, ins, dtype)
    few, gates = rounded(weight, quantization), rounded(gate_up, quantization)

    def arguments(x, norm, weight, bias, residual, gate_up):
        return {
            "linear": (x, weight, bias),
            "norm_linear": (x, norm, 1e-6, weight, bias),
            "linear_add": (x, weight, residual),
            "norm_gated": (x, norm, 1e-6, gate_up),
            "gated": (x, gate_up),
        }

    wide = [tensor.float() for tensor in (x, norm, bias, residual)]
    return arguments(x, norm, few, bias, residual, gates), arguments(
        *wide[:2], few.dense(torch.float32), *wide[2:], gates.dense(torch.float32)
    )


@pytest.mark.slow
@pytest.mark.parametrize("quantization", QUANTIZATIONS)
@pytest.mark.parametrize("config", [FMA, DOT, replace(DOT, split=2)], ids=["registers", "tensor cores", "split"])
def test_quantized_weights_are_multiplied_as_what_they_stand_for(config, quantization):
    ours, reference = quantized(2, 40, 192, torch.bfloat16, quantization)
    for op in OPS if config.fma else DOT_OPS[:2] if config.split > 1 else DOT_OPS:
        expected = gated(*reference[op]) if op == "gated" else getattr(TorchOps(), op)(*reference[op])
        close(getattr(linear, op)(*ours[op], config=config), expected, torch.bfloat16)


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
@pytest.mark.parametrize(
    "tokens", [1, 2, 9, 70, pytest.param(150, marks=pytest.mark.slow), pytest.param(300, marks=pytest.mark.slow)]
)
def test_ops_take_any_number_of_tokens_of_quantized_weights(tokens, quantization):
    ours, reference = quantized(tokens, 24, 64, torch.bfloat16, quantization)
    for op in OPS:
        expected = getattr(TorchOps(), op)(*reference[op])
        close(getattr(TritonOps(), op)(*ours[op]), expected, torch.bfloat16)


def test_a_norm_is_handed_on_between_quantized_linears():
    x, _, weight, _, residual, _ = tensors(5, 72, 96, torch.bfloat16)
    _, norm, after, bias, _, gate_up = tensors(5, 40, 72, torch.bfloat16)
    few, following, gates = (quantize(one, "int8") for one in (weight, after, gate_up))
    total, *ahead = linear.linear_add_ahead(x, few, residual, norm, following=following)
    close(total, TorchOps().linear_add(x.float(), few.dense(torch.float32), residual.float()), torch.bfloat16)
    wide = total.float(), norm.float(), 1e-6
    expected = TorchOps().norm_linear(*wide, following.dense(torch.float32), bias.float())
    close(linear.ahead_linear(*ahead, 1e-6, following, bias), expected, torch.bfloat16)
    expected = TorchOps().norm_gated(*wide, gates.dense(torch.float32))
    close(linear.ahead_gated(*ahead, 1e-6, gates), expected, torch.bfloat16)


@pytest.mark.parametrize("quantization", ["int8", "int4"])
def test_making_integers_of_inputs_loses_far_less_than_making_them_of_weights(quantization):
    ours, reference = quantized(1, 24, 192, torch.float32, quantization)
    got, expected = linear.linear(*ours["linear"]), TorchOps().linear(*reference["linear"])
    assert float((got - expected).norm() / expected.norm()) < {"int8": 2e-5, "int4": 6e-3}[quantization]


@pytest.mark.parametrize("quantization", ["int8", "int4"])
def test_an_input_that_is_no_number_stays_visible_behind_integer_weights(quantization):
    x, weight, bias = quantized(1, 24, 192, torch.bfloat16, quantization)[0]["linear"]
    x[0, 7] = torch.nan
    assert linear.linear(x, weight, bias).isnan().all()


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("size", [1, 0.5])
def test_a_program_of_integer_weights_has_no_more_than_registers_hold(size, gated):
    for outs, ins in product((64, 1024, 3072, 4096, 28672, 151936), (576, 1024, 3072, 4096, 12288, 28672)):
        use = configured(1, outs, ins, size, gated=gated, integers=True)
        assert use.fma
        assert use.block_n * (1 + gated) * ins * size <= 4 * 128 * 32 * use.warps


def test_split_fits_the_scratch_for_many_tokens_of_quantized_weights():
    for outs, ins in product((1024, 2048, 4096, 6144, 151936), (1024, 2048, 6144)):
        for tokens in (65, 128, 129, 256):
            use, block_t = configured(tokens, outs, ins, 1), padded(tokens)
            tiles = -(-outs // use.block_n) * -(-tokens // block_t)
            assert use.split == 1 or tiles * use.split * use.block_n * block_t <= linear.SCRATCH
