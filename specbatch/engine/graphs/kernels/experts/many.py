"""Experts of more tokens: each expert's tokens together, in blocks; a program takes a few of an expert's outputs for one block of tokens.

As linear_dot, tiles of weights are the left operand of the tensor cores and tokens the right one: at a batch's sizes an expert has few. Programs of the same
expert stand side by side, so that what two blocks read comes out of the L2 cache once.

Names of sizes as in few; S = T * K pairs of a token and one of its experts, M blocks of them.
"""

# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from specbatch.engine.graphs.describe.description import Activation
from specbatch.engine.graphs.kernels.activations import CODES, activated
from specbatch.engine.graphs.kernels.experts.grouping import Grouped
from specbatch.engine.graphs.kernels.fitting import with_stages
from specbatch.engine.graphs.kernels.overlap import overlap


class Tile(NamedTuple):
    """[block_n outputs, block_k inputs], warps, stages of loads in flight."""

    block_n: int
    block_k: int
    warps: int
    stages: int


# By pairs of a block, for weights of two bytes: of both kernels.
SIZES = (8, 16, 32, 64)
_GATED = {
    8: Tile(16, 256, 2, 4),
    16: Tile(16, 256, 2, 4),
    32: Tile(32, 128, 4, 4),
    64: Tile(64, 64, 4, 4),
}
_DOWN = {
    8: Tile(32, 256, 2, 3),
    16: Tile(32, 256, 2, 3),
    32: Tile(64, 128, 4, 4),
    64: Tile(128, 64, 8, 4),
}


def block_size(pairs: int, experts: int) -> int:
    """Pairs of a block: one that holds what an expert has in most cases, where experts are chosen evenly."""
    return next((size for size in SIZES if 2 * pairs <= size * experts), SIZES[-1])


def tiles_of(size: int, number_bytes: int) -> tuple[Tile, Tile]:
    """Of both kernels."""
    if number_bytes == 2:
        return _GATED[size], _DOWN[size]
    return Tile(16, 64, 4, 2), Tile(32, 64, 4, 2)


def gate_up(
    x: Tensor, pairs: Grouped, each: int, weight: Tensor, activation: Activation, tile: Tile | None = None
) -> Tensor:
    """activation(gate) * up of all pairs, in the order of `pairs`.  # [T, H], [E, 2 I, H] -> [S, I]"""
    out = x.new_empty(len(pairs.order), weight.shape[1] // 2)
    _run(
        x,
        pairs,
        each,
        weight,
        out,
        CODES[activation.name],
        tile or tiles_of(pairs.size, x.element_size())[0],
        gated=True,
    )
    return out


def down(x: Tensor, pairs: Grouped, weight: Tensor, tile: Tile | None = None) -> Tensor:
    """The products of what gate_up gave, pair after pair; what nothing was chosen for is not written.  # [S, I], [E, H, I] -> [S, H]"""
    out = x.new_empty(len(x), weight.shape[1])
    _run(x, pairs, 1, weight, out, 0, tile or tiles_of(pairs.size, x.element_size())[1], gated=False)
    return out


def combine(
    x: Tensor, weights: Tensor, experts: Tensor, count: int, residual: Tensor | None,
    norm: Tensor | None = None, eps: float = 0.0,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """residual + the weighted sum of a token's pairs, rounded once; and the norm of that, where there is one.

    Args:
        x: [S, H]
        weights: float32 [T, K]
        experts: `count`: none  # int32 [T, K]
        count: E.
        residual: [T, H]
        norm: weights of a norm  # [H]
        eps: of it.

    Returns:
        [T, H], [T, H]
    """
    tokens, each = weights.shape
    size = x.shape[1]
    out = x.new_empty(tokens, size)
    normed = out if norm is None else torch.empty_like(out)
    width = triton.next_power_of_2(size)
    if tokens:
        _combine[(tokens,)](
            x, weights, experts, residual, norm, out, normed, eps, count=count, each=each, size=size, width=width,
            adds=residual is not None, is_normed=norm is not None, num_warps=max(1, min(16, width // 512)),
            **overlap(x.device),
        )  # fmt: skip
    return out, normed


def _run(x: Tensor, pairs: Grouped, each: int, weight: Tensor, out: Tensor, activation: int, tile: Tile, *, gated: bool) -> None:  # fmt: skip
    outs, ins = weight.shape[1] // (1 + gated), weight.shape[2]

    def run(stages: int) -> None:
        _grouped[(triton.cdiv(outs, tile.block_n), len(pairs.blocks))](
            x, weight, pairs.order, pairs.blocks, out, outs, ins,
            each=each, block_n=tile.block_n, block_k=tile.block_k, block_t=pairs.size, gated=gated,
            even_n=outs % tile.block_n == 0, even_k=ins % tile.block_k == 0, activation=activation,
            num_warps=tile.warps, num_stages=stages, **overlap(x.device),
        )  # fmt: skip

    with_stages(("experts", tile, pairs.size, gated, x.dtype, x.device), tile.stages, run)


@triton.jit
def _grouped(
    x, weight, order, blocks, out, outs, ins,
    each: tl.constexpr, block_n: tl.constexpr, block_k: tl.constexpr, block_t: tl.constexpr, gated: tl.constexpr,
    even_n: tl.constexpr, even_k: tl.constexpr, activation: tl.constexpr, overlapped: tl.constexpr,
):  # fmt: skip
    """gated: inputs are tokens, outputs lie in the order of pairs; else the other way round"""
    if overlapped:
        tl.extra.cuda.gdc_wait()
    block = blocks + tl.program_id(1) * 3
    expert, first, end = tl.load(block), tl.load(block + 1), tl.load(block + 2)
    if first < end:
        start = tl.program_id(0) * block_n
        row = tl.arange(0, block_n)
        n = start + row
        if not even_n:
            row = tl.minimum(n, outs - 1) - start
        t = first + tl.arange(0, block_t)
        wanted = t < end
        pair = tl.load(order + t, mask=wanted, other=0)
        k = tl.arange(0, block_k)
        inputs, written = t, pair
        if gated:
            inputs, written = pair // each, t
        inputs = tl.where(wanted, inputs, 0)
        rows = weight + (expert.to(tl.int64) * outs * (1 + gated) + start) * ins
        ups = rows + tl.cast(outs, tl.int64) * ins
        weights = row[:, None] * ins + k[None, :]
        values = x + inputs.to(tl.int64)[None, :] * ins + k[:, None]
        acc = tl.full((block_n, block_t), 0.0, tl.float32)
        acc_up = tl.full((block_n, block_t), 0.0, tl.float32)
        for step in tl.range(0, (ins + block_k - 1) // block_k):
            offset = step * block_k
            if even_k:
                a = tl.load(rows + weights + offset, eviction_policy="evict_first")
                b = tl.load(values + offset, mask=wanted[None, :], other=0.0, eviction_policy="evict_last")
            else:
                left = k < ins - offset
                a = tl.load(rows + weights + offset, mask=left[None, :], other=0.0, eviction_policy="evict_first")
                b = tl.load(
                    values + offset, mask=wanted[None, :] & left[:, None], other=0.0, eviction_policy="evict_last"
                )
            acc = tl.dot(a, b, acc, input_precision="ieee")
            if gated:
                if even_k:
                    c = tl.load(ups + weights + offset, eviction_policy="evict_first")
                else:
                    c = tl.load(ups + weights + offset, mask=left[None, :], other=0.0, eviction_policy="evict_first")
                acc_up = tl.dot(c, b, acc_up, input_precision="ieee")
        if gated:
            acc = activated(acc, 0.0, 0.0, 0.0, 0.0, activation) * acc_up
        at = written.to(tl.int64)[None, :] * outs + n[:, None]
        tl.store(out + at, acc.to(out.dtype.element_ty), mask=wanted[None, :] & (n < outs)[:, None])
    if overlapped:
        tl.extra.cuda.gdc_launch_dependents()


@triton.jit
def _combine(
    x, weights, experts, residual, norm, out, normed, eps,
    count: tl.constexpr, each: tl.constexpr, size: tl.constexpr, width: tl.constexpr,
    adds: tl.constexpr, is_normed: tl.constexpr, overlapped: tl.constexpr,
):  # fmt: skip
    column = tl.arange(0, width)
    inside = column < size
    factor = tl.full((1,), 1.0, tl.float32)
    if is_normed:
        factor = tl.load(norm + column, mask=inside, other=0.0)
    if overlapped:
        tl.extra.cuda.gdc_wait()
    token = tl.program_id(0).to(tl.int64)
    at = token * size + column
    total = tl.full((width,), 0.0, tl.float32)
    if adds:
        total = tl.load(residual + at, mask=inside, other=0.0).to(tl.float32)
    for j in tl.static_range(each):
        pair = token * each + j
        taken = inside & (tl.load(experts + pair) < count)
        total += tl.load(weights + pair) * tl.load(x + pair * size + column, mask=taken, other=0.0).to(tl.float32)
    y = total.to(out.dtype.element_ty)
    if is_normed:
        wide = y.to(tl.float32)
        rstd = tl.math.rsqrt(tl.sum(wide * wide, axis=0) / size + eps)
        z = ((wide * rstd).to(factor.dtype).to(tl.float32) * factor.to(tl.float32)).to(y.dtype)
    if overlapped:
        tl.extra.cuda.gdc_launch_dependents()
    tl.store(out + at, y, mask=inside)
    if is_normed:
        tl.store(normed + at, z, mask=inside)
