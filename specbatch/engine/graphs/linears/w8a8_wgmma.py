"""Which FP8 linears kernels/linears/w8a8_wgmma.py takes, by which tiles, and their launches: see there, and kernels/linears/wgmma.py."""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import torch
import triton
from torch import Tensor

from specbatch.engine.fp8.w8a8 import FP8
from specbatch.engine.graphs.describe.description import SILU, Activation
from specbatch.engine.graphs.kernels.linears import linear as plain
from specbatch.engine.graphs.kernels.linears import wgmma
from specbatch.engine.graphs.kernels.linears.linear_configs import MULTIPROCESSORS, SCRATCH, padded
from specbatch.engine.graphs.kernels.overlap import overlap
from specbatch.engine.graphs.linears.w8a8_configs import GROUP
from specbatch.engine.quantization.weight import QuantizedWeight

if TYPE_CHECKING:
    from specbatch.engine.graphs.linears.w8a8 import Rounded

FEWEST, MOST = 9, 64  # tokens; a benchmark sets the most to 0 for the kernel in plain Triton
_LONG = 16 << 20  # bytes of weights: shorter ones were not tried
_SHARED = 225 << 10  # bytes of a multiprocessor's shared memory: the kernel that rounds the next inputs fits beside it
_BARRIERS = 512  # bytes, and more than they take
_ATTENTION = 32  # tokens up to which attention that waits beside queries, keys and values costs more than it spares


@dataclass(frozen=True, slots=True)
class Tile:
    """block_n outputs; groups of inputs a step; so many steps on their way; programs that share a tile's inputs."""

    block_n: int
    of_step: int
    stages: int
    split: int = 1
    warps: int = 4


def fitted(
    tokens: int, outs: int, ins: int, block_n: int, split: int = 1, *, gated: bool, of_step: int = 1, each: int = 1
) -> Tile | None:
    """The tile with as many steps on their way as shared memory holds, or there are; None where these are too few, or programs too many.

    Args:
        tokens: of which a program takes all.
        outs: of the gate alone where gated.
        ins: inputs.
        block_n: outputs of a program.
        split: programs that share a tile's inputs.
        gated: two linears, of gate and up.
        of_step: groups of a step.
        each: programs of a multiprocessor.
    """
    block_t, tiles, steps = padded(tokens), -(-outs // block_n), _steps(ins, of_step, split)
    scales = triton.next_power_of_2(steps * of_step) * block_t * (1 + gated) * 4
    step = (block_n * (1 + gated) + block_t) * GROUP * of_step
    stages = min(steps, (_SHARED // each - scales - _BARRIERS) // step)
    alone = split == 1 or (not gated and tiles <= plain.TILES and tiles * split * block_n * block_t <= SCRATCH)
    if tiles * split > each * MULTIPROCESSORS or stages < min(3, steps) or not alone:
        return None
    return Tile(block_n, of_step, stages, split, 4 if block_n == 64 else 8)


def _steps(ins: int, of_step: int, split: int) -> int:
    """Of a program."""
    return -(-ins // (GROUP * of_step * split))


@cache
def tile_of(tokens: int, outs: int, ins: int, *, gated: bool) -> Tile | None:
    """The tile of so many tokens and outputs (of the gate alone where gated); None where programs would not all run at once.

    One of a gate is as large as a group, so that its outputs are rounded there. Others have two groups a step: with one of 64 rows
    a step would take longer than its weights from memory.
    """
    if gated:
        return fitted(tokens, outs, ins, GROUP, gated=True) if outs > MULTIPROCESSORS // 2 * GROUP else None
    split = min(8, max(1, MULTIPROCESSORS // -(-outs // 64)))
    found = fitted(tokens, outs, ins, 64, split, gated=False, of_step=2)
    return found or fitted(tokens, outs, ins, 64, gated=False, of_step=2, each=2)


def takes(x: Rounded, weight: QuantizedWeight, gate: Activation | None = None) -> bool:
    """Whether this kernel is the fastest of these."""
    tokens, ins = x.values.shape
    outs, gated = weight.shape[0] // (1 if gate is None else 2), gate is not None
    return (
        FEWEST <= tokens <= MOST
        and x.values.dtype == weight.values.dtype == FP8
        and x.scales is not None
        and x.scales.stride() == (1, tokens)
        and weight.values.nbytes >= _LONG
        and (gate is None or gate.name == SILU.name)
        and (_by_blocks(weight, outs, gated=gated) or (weight.scales.shape[1] == 1 and weight.group >= ins))
        and wgmma.able(x.values.device)
        and x.values.is_contiguous()
        and x.values.data_ptr() % 16 == weight.values.data_ptr() % 16 == ins % 64 == 0
        and tile_of(tokens, outs, ins, gated=gated) is not None
    )


def _by_blocks(weight: QuantizedWeight, outs: int, *, gated: bool) -> bool:
    """Whether a tile's outputs share scales, whichever tile it is, and inputs are in groups as well."""
    shared = weight.rows % GROUP == 0 and not (gated and outs % weight.rows)
    return shared and weight.scales.shape[1] > 1 and weight.columns == weight.group == GROUP


def multiplied(
    x: Rounded, weight: QuantizedWeight, extra: Tensor | None = None, kind: int = plain.NOTHING,
    *, gated: bool = False, rounds: bool = False, tile: Tile | None = None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:  # fmt: skip
    """A linear as in w8a8.py, of what takes() has agreed to.

    Args:
        x: [T, K]
        weight: [N, K], or [2 N, K] for gate and up.
        extra: a bias [N] or a residual [T, N], by `kind`.
        kind: see linear.py.
        gated: silu(gate) * up.
        rounds: the outputs are rounded for the next linear as well, where a tile is as large as a group.
        tile: instead of the rule's.

    Returns:
        outputs [T, N]; rounded [T, N], and their scales [groups, T], where they are
    """
    # Gluon is experimental, and has no interpreter: nobody imports it in vain.
    from specbatch.engine.graphs.kernels.linears.linear_wgmma import descriptor  # noqa: PLC0415
    from specbatch.engine.graphs.kernels.linears.w8a8_wgmma import on_wgmma_fp8  # noqa: PLC0415

    assert x.scales is not None
    tokens, ins = x.values.shape
    outs, device, block_t = weight.shape[0] // (1 + gated), x.values.device, padded(tokens)
    tile = tile or tile_of(tokens, outs, ins, gated=gated)
    assert tile is not None
    assert tile.split == 1 or not gated
    tiles, width = -(-outs // tile.block_n), GROUP * tile.of_step
    out = torch.empty(tokens, outs, dtype=x.dtype, device=device)
    rounded = scales = None
    if rounds and gated and tile.block_n == GROUP and outs % GROUP == 0:
        rounded = torch.empty(tokens, outs, dtype=FP8, device=device)
        scales = torch.empty(outs // GROUP, tokens, dtype=torch.float32, device=device)
    partial, counters = plain.scratch_of(device) if tile.split > 1 else (None, None)
    on_wgmma_fp8[(tiles, tile.split)](
        descriptor(x.values, block_t, width), x.scales, descriptor(weight.values, tile.block_n, width), weight.scales,
        extra, out, rounded, scales, partial, counters,
        tokens, outs, ins, weight.scales.shape[1], weight.rows, x.scales.stride(1),
        block_n=tile.block_n, block_t=block_t, of_step=tile.of_step, stages=tile.stages, split=tile.split,
        room=triton.next_power_of_2(_steps(ins, tile.of_step, tile.split) * tile.of_step), by_group=weight.scales.shape[1] > 1, gated=gated,
        rounds=rounded is not None, kind=plain.NOTHING if extra is None else kind,
        early=gated or kind == plain.RESIDUAL or tokens > _ATTENTION,
        warps=tile.warps, num_warps=tile.warps, **overlap(device),
    )  # fmt: skip
    return out, rounded, scales
