"""Which linears linear_wgmma.py takes, by which tiles, and their launches: see there.

Tiles are the best of some fifty for Qwen3-8B on an H200, tried in chains of its layers (decision 0015).
"""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import triton
from torch import Tensor

from specbatch.engine.graphs.describe.description import SILU, Activation
from specbatch.engine.graphs.kernels.linears import linear
from specbatch.engine.graphs.kernels.linears.linear_configs import MULTIPROCESSORS, padded
from specbatch.engine.graphs.kernels.overlap import overlap
from specbatch.engine.quantization.weight import QuantizedWeight, Weight

FEWEST, MOST = 9, 64  # tokens: with more, reading them again for each tile takes longer than the weights
_LONG = 32 << 20  # bytes of weights: shorter ones were not tried
_SHARED = 225 << 10  # bytes of a multiprocessor's shared memory
_ROOM = 64  # stretches of a token's hidden states, at least: models share what is compiled
_HOPPER = 9
_GLUON = (3, 6), (3, 8)  # Triton, from and below: Gluon is experimental. With others these linears are cuBLAS's


@dataclass(frozen=True, slots=True)
class Tile:
    """block_n outputs, block_k inputs a step; so many steps on their way; programs that share a tile's inputs."""

    block_n: int
    block_k: int
    stages: int
    split: int = 1
    warps: int = 4


@cache
def tile_of(tokens: int, outs: int, *, gated: bool) -> Tile | None:
    """The tile of so many tokens and outputs (of the gate alone where gated); None where programs would not all run at once."""
    block_t = padded(tokens)
    of_gates = [(128, 128, 8), (64, 64, 4)] if block_t <= 32 else [(64, 64, 4)]
    tries = of_gates if gated else [(64, 128, 4)]
    for block_n, block_k, warps in tries:
        tiles = -(-outs // block_n)
        split = 1 if gated else min(8, max(1, MULTIPROCESSORS // tiles))
        each = 1 if tiles * split <= MULTIPROCESSORS and block_k == 128 else 2  # programs of a multiprocessor
        stages = _SHARED // each // ((block_n * (1 + gated) + block_t) * block_k * 2)
        if tiles * split <= each * MULTIPROCESSORS and stages >= 3:
            return Tile(block_n, block_k, stages, split, warps)
    return None


def known_gluon(triton_version: str = triton.__version__) -> bool:
    """Whether the kernel is compiled with this Triton in tests."""
    return _GLUON[0] <= tuple(int(part) for part in triton_version.split(".")[:2]) < _GLUON[1]


@cache
def able(device: torch.device) -> bool:
    """Whether there are Hopper's tensor cores, as many as the tiles are for, and a Gluon that is known."""
    return (
        device.type == "cuda"
        and not triton.knobs.runtime.interpret
        and known_gluon()
        and torch.cuda.get_device_capability(device)[0] == _HOPPER
        and torch.cuda.get_device_properties(device).multi_processor_count >= MULTIPROCESSORS
    )


def takes(x: Tensor, weight: Weight, *, gated: bool = False, activation: Activation = SILU) -> bool:
    """Whether a linear of ours on Hopper's tensor cores is the fastest of these."""
    return (
        FEWEST <= len(x) <= MOST
        and not isinstance(weight, QuantizedWeight)
        and x.dtype == weight.dtype == torch.bfloat16
        and weight.nbytes >= _LONG
        and activation.name == SILU.name
        and able(x.device)
        and x.is_contiguous()
        and weight.is_contiguous()
        and x.data_ptr() % 16 == weight.data_ptr() % 16 == x.shape[1] % 64 == 0
        and tile_of(len(x), weight.shape[0] // (1 + gated), gated=gated) is not None
    )


def follows(x: Tensor, weight: Weight) -> bool:
    """Whether this takes the linear after a norm of x, be it one of gate and up or not."""
    return takes(x, weight) or takes(x, weight, gated=True)


def multiplied(
    x: Tensor, weight: Weight, extra: Tensor | None = None, kind: int = linear.NOTHING,
    *, gated: bool = False, squares: Tensor | None = None, eps: float = 0.0, next_norm: Tensor | None = None,
) -> tuple[Tensor, Any, Any]:  # fmt: skip
    """A linear as in linear.py, of what takes() has agreed to.

    Args:
        x: [T, K]; times the norm's weights where there are `squares`.
        weight: [N, K], or [2 N, K] for gate and up.
        extra: a bias [N] or a residual [T, N], by `kind`.
        kind: see linear.py.
        gated: silu(gate) * up.
        squares: as linear_add_ahead gives them.
        eps: of the norm.
        next_norm: weights of the norm that comes next  # [N]

    Returns:
        outputs [T, N]; and as linear_add_ahead, where there is a next norm
    """
    # Gluon is experimental, and has no interpreter: nobody imports it in vain.
    from specbatch.engine.graphs.kernels.linears.linear_wgmma import descriptor, on_wgmma  # noqa: PLC0415

    assert not isinstance(weight, QuantizedWeight)
    tokens, ins = x.shape
    outs, block_t = weight.shape[0] // (1 + gated), padded(len(x))
    tile = tile_of(tokens, outs, gated=gated)
    assert tile is not None
    tiles = -(-outs // tile.block_n)
    out = x.new_empty(tokens, outs)
    scaled = squares_out = None
    if next_norm is not None:
        scaled = torch.empty_like(out)
        squares_out = torch.empty(tiles, block_t, dtype=torch.float32, device=x.device)
    scratch, counters = linear.scratch_of(x.device) if tile.split > 1 else (None, None)
    stretches = 0 if squares is None else len(squares)
    on_wgmma[(tiles, tile.split)](
        descriptor(x, block_t, tile.block_k), descriptor(weight, tile.block_n, tile.block_k),
        squares, extra, out, next_norm, scaled, squares_out, scratch, counters, tokens, outs, ins, eps, stretches,
        block_n=tile.block_n, block_t=block_t, block_k=tile.block_k, stages=tile.stages, split=tile.split,
        room=max(_ROOM, triton.next_power_of_2(stretches)) if stretches else 0, gated=gated,
        kind=linear.NOTHING if extra is None else kind, hands_on=next_norm is not None,
        warps=tile.warps, num_warps=tile.warps, **overlap(x.device),
    )  # fmt: skip
    return out, scaled, squares_out
