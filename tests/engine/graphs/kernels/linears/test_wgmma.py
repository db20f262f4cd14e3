"""Linears on Hopper's tensor cores: their tiles anywhere, their numbers on such a GPU. That they compile, tests/engine/graphs/compiled says."""

import pytest
import torch

from specbatch.engine.graphs.kernels.linears import linear, wgmma
from specbatch.engine.graphs.kernels.linears.linear_configs import MULTIPROCESSORS, SCRATCH, padded
from specbatch.engine.graphs.reference import TorchOps
from specbatch.engine.graphs.triton_ops import TritonOps

HIDDEN, INNER = 4096, 12288
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
on_hopper = pytest.mark.skipif(not wgmma.able(DEVICE), reason="for Hopper's tensor cores")


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("tokens", [9, 16, 17, 32, 33, 64])
def test_all_programs_of_a_tile_run_at_once(tokens, gated):
    for outs in (1024, 4096, 5120, 6144, 8192, 10240, 12288, 14336, 17408, 25600):
        tile = wgmma.tile_of(tokens, outs, gated=gated)
        if tile is not None:
            programs = -(-outs // tile.block_n) * tile.split
            each = tile.stages * (tile.block_n * (1 + gated) + padded(tokens)) * tile.block_k * 2
            assert -(-programs // MULTIPROCESSORS) * each <= 227 << 10
            assert tile.split == 1 or programs * tile.block_n * padded(tokens) <= SCRATCH
            assert tile.split == 1 or programs <= linear.TILES


def test_a_vocabulary_is_not_for_these():
    assert wgmma.tile_of(32, 151936, gated=False) is None


def test_another_device_has_other_kernels():
    x, weight = torch.zeros(32, HIDDEN, dtype=torch.bfloat16), torch.zeros(HIDDEN, HIDDEN, dtype=torch.bfloat16)
    assert not wgmma.takes(x, weight)


def test_tritons_whose_gluon_nobody_has_tried_leave_it_to_cublas():
    assert wgmma.known_gluon()  # the one that tests/engine/graphs/compiled compiles it with
    assert wgmma.known_gluon("3.6.0")
    assert not wgmma.known_gluon("3.5.1")
    assert not wgmma.known_gluon("3.8.0+git1")


def tensors(tokens):
    """Hidden states, a norm, and weights of o, gate and up, down."""
    draw = torch.Generator(DEVICE).manual_seed(tokens)

    def normal(*shape, scale=1.0):
        return (torch.randn(*shape, generator=draw, device=DEVICE) * scale).bfloat16()

    weights = [(HIDDEN, HIDDEN), (2 * INNER, HIDDEN), (HIDDEN, INNER)]
    return normal(tokens, HIDDEN), normal(HIDDEN), *(normal(*sizes, scale=sizes[1] ** -0.5) for sizes in weights)


def off(got, right):
    return float((got.float() - right).norm() / right.norm())


@pytest.mark.gpu
@on_hopper
@pytest.mark.parametrize("tokens", [9, 16, 20, 32, 64])
def test_a_layer_gives_the_reference_every_time(tokens):
    x, norm, o, gate_up, down = tensors(tokens)

    def layer():
        hidden, ahead = TritonOps().linear_add_ahead(x, o, x, norm, gate_up)
        fed = TritonOps().norm_gated(hidden, norm, 1e-6, gate_up, ahead)
        return hidden, fed, TritonOps().linear_add(fed, down, hidden)

    assert wgmma.takes(x, o)
    hidden, fed, out = layer()
    assert off(hidden, TorchOps().linear_add(x.float(), o.float(), x.float())) < 1e-2
    assert off(fed, TorchOps().norm_gated(hidden.float(), norm.float(), 1e-6, gate_up.float())) < 1e-2
    assert off(out, TorchOps().linear_add(fed.float(), down.float(), hidden.float())) < 1e-2
    for _ in range(3):
        assert all(map(torch.equal, layer(), (hidden, fed, out)))
    assert not linear.scratch_of(x.device)[1].any()


@pytest.mark.gpu
@on_hopper
def test_rows_do_not_depend_on_how_many_there_are():
    x, _, o, *_ = tensors(32)
    whole = TritonOps().linear(x, o)
    assert torch.equal(whole[:17], TritonOps().linear(x[:17].contiguous(), o))
