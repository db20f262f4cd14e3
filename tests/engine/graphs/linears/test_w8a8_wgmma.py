"""FP8 linears on Hopper's tensor cores in Gluon: their tiles anywhere, their numbers on such a GPU. That they compile, tests/engine/graphs/compiled says."""

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("triton")

from specbatch.engine.fp8.w8a8 import FP8
from specbatch.engine.graphs.describe.description import SILU, Activation
from specbatch.engine.graphs.kernels.linears import linear, wgmma
from specbatch.engine.graphs.kernels.linears.linear_configs import MULTIPROCESSORS, SCRATCH, padded
from specbatch.engine.graphs.linears import w8a8, w8a8_wgmma
from specbatch.engine.quantization.weight import QuantizedWeight, multiply

HIDDEN, INNER = 4096, 12288
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
on_hopper = pytest.mark.skipif(not wgmma.able(DEVICE), reason="for Hopper's tensor cores")


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("tokens", [9, 16, 17, 32, 33, 64])
def test_all_programs_of_a_tile_run_at_once(tokens, gated):
    for outs in (1024, 4096, 5120, 6144, 8192, 10240, 12288, 14336, 17408, 25600):
        for ins in (2048, 4096, 5120, 12288, 25600):
            tile = w8a8_wgmma.tile_of(tokens, outs, ins, gated=gated)
            if tile is None:
                continue
            programs = -(-outs // tile.block_n) * tile.split
            each = tile.stages * (tile.block_n * (1 + gated) + padded(tokens)) * 128 * tile.of_step
            each += padded(tokens) * 4 * (1 + gated) * -(-ins // (128 * tile.split))
            assert -(-programs // MULTIPROCESSORS) * each <= 227 << 10
            assert tile.split == 1 or programs * tile.block_n * padded(tokens) <= SCRATCH
            assert tile.split == 1 or programs <= linear.TILES


def test_tiles_of_gates_are_as_large_as_a_group():
    for tokens in (9, 32, 64):
        tile = w8a8_wgmma.tile_of(tokens, INNER, HIDDEN, gated=True)
        assert (tile.block_n, tile.split) == (128, 1)
    assert w8a8_wgmma.tile_of(32, 6144, 2048, gated=True) is None  # too few programs to fill memory's bandwidth
    assert w8a8_wgmma.tile_of(32, 25600, 5120, gated=True) is None  # too many at once


def test_a_vocabulary_is_not_for_these():
    assert w8a8_wgmma.tile_of(32, 151936, HIDDEN, gated=False) is None


def nothing(*shape, dtype=FP8):
    """Of which nobody asks for values."""
    return torch.empty(*shape, dtype=dtype)


def blocks(outs=HIDDEN, rows=128, group=128):
    return QuantizedWeight(nothing(outs, HIDDEN), nothing(-(-outs // rows), 32, dtype=torch.float32), rows, 128, group)


def inputs(tokens, groups=32):
    return w8a8.Rounded(nothing(tokens, HIDDEN), torch.empty(groups, tokens, dtype=torch.float32).t(), torch.bfloat16)


def test_only_what_the_kernel_reads_is_taken(monkeypatch):
    assert not w8a8_wgmma.takes(inputs(32), blocks())  # a CPU
    monkeypatch.setattr(wgmma, "able", lambda device: True)
    taken = w8a8_wgmma.takes
    assert taken(inputs(9), blocks())
    assert taken(inputs(64), blocks())
    assert not taken(inputs(8), blocks())
    assert not taken(inputs(65), blocks())
    assert not taken(inputs(32), blocks(rows=32))  # a tile's outputs would not share scales
    assert not taken(inputs(32, 1), blocks(group=HIDDEN))  # weights in groups, inputs not
    assert not taken(inputs(32), blocks(outs=1024))  # short
    assert taken(inputs(32), blocks(outs=2 * INNER), SILU)
    assert not taken(inputs(32), blocks(outs=2 * INNER), Activation("gelu"))
    channels = QuantizedWeight(nothing(HIDDEN, HIDDEN), nothing(HIDDEN, 1, dtype=torch.float32), 1, HIDDEN, HIDDEN)
    assert taken(inputs(32, 1), channels)
    monkeypatch.setattr(w8a8_wgmma, "MOST", 0)
    assert not taken(inputs(32), blocks())


def random_weight(outs, ins, *, channels):
    values = torch.randn(outs, ins, device=DEVICE).clamp(-3, 3).to(FP8)
    if channels:
        return QuantizedWeight(values, torch.rand(outs, 1, device=DEVICE) / 64, 1, ins, ins)
    return QuantizedWeight(values, torch.rand(outs // 128, ins // 128, device=DEVICE) / 64, 128, 128, 128)


def off(got, right):
    """Of the worst token."""
    return float(((got.float() - right).norm(dim=1) / right.norm(dim=1)).max())


@pytest.mark.gpu
@on_hopper
@pytest.mark.parametrize("channels", [False, True])
@pytest.mark.parametrize("tokens", [9, 16, 20, 32, 64])
def test_linears_give_the_reference_every_time(tokens, channels):
    torch.manual_seed(tokens)
    for outs, ins in ((HIDDEN, HIDDEN), (HIDDEN, INNER), (6144, HIDDEN)):
        sizes = torch.exp(torch.randn(tokens, ins // 128, device=DEVICE)).repeat_interleave(128, 1)
        x = (torch.randn(tokens, ins, device=DEVICE) * sizes).bfloat16()
        weight = random_weight(outs, ins, channels=channels)
        ready, right = w8a8.rounded(x, weight.group), multiply(x.float(), weight)
        bias, residual = (torch.randn(*shape, device=DEVICE).bfloat16() for shape in ((outs,), (tokens, outs)))
        assert w8a8_wgmma.takes(ready, weight)
        assert off(w8a8.linear(ready, weight), right) < 8e-3
        assert off(w8a8.linear(ready, weight, bias), right + bias.float()) < 8e-3
        out = w8a8.linear(ready, weight, residual=residual)
        assert off(out, right + residual.float()) < 8e-3
        assert all(torch.equal(out, w8a8.linear(ready, weight, residual=residual)) for _ in range(3))
        assert not linear.scratch_of(x.device)[1].any()


@pytest.mark.gpu
@on_hopper
@pytest.mark.parametrize("channels", [False, True])
@pytest.mark.parametrize("tokens", [9, 32, 64])
def test_gates_are_rounded_for_the_next_linear_as_the_kernel_for_it_does(tokens, channels):
    x = torch.randn(tokens, HIDDEN, device=DEVICE).bfloat16()
    weight = random_weight(2 * INNER, HIDDEN, channels=channels)
    out, following = w8a8.gated(w8a8.rounded(x, weight.group), weight, group=weight.group)
    gate, up = multiply(x.float(), weight).chunk(2, dim=1)
    assert off(out, F.silu(gate) * up) < 8e-3
    assert (following is None) == channels
    if following is not None:
        right = w8a8.rounded(out, 128)
        assert torch.equal(following.values.float(), right.values.float())
        assert torch.equal(following.scales, right.scales)
