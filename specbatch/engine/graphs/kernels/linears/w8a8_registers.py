"""Linears of one or two tokens whose weights and inputs are FP8, multiplied in registers; see linears/w8a8.py."""

# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from specbatch.engine.graphs.kernels.linears.epilogue import write
from specbatch.engine.graphs.kernels.linears.w8a8 import GROUP
from specbatch.engine.graphs.kernels.linears.w8a8_rounding import few_bits, largest, scale_of, spread, weighted


@triton.jit
def in_registers(
    x, x_scales, norm, weight, scales, extra, out, outs, ins, columns, rows, x_stride, eps,
    block_n: tl.constexpr, block_k: tl.constexpr, tail: tl.constexpr, count: tl.constexpr,
    pieces: tl.constexpr, tail_pieces: tl.constexpr,
    by_group: tl.constexpr, x_by_group: tl.constexpr, rounding: tl.constexpr, normed: tl.constexpr,
    gated: tl.constexpr, kind: tl.constexpr, even_n: tl.constexpr, even_k: tl.constexpr,
    early: tl.constexpr, activation: tl.constexpr, overlapped: tl.constexpr,
):  # fmt: skip
    """As fma of linear_fma.py: all weights of block_n outputs are asked for before the kernel ahead has ended.

    An input is multiplied by its group's scales, those of its weights and its own, before it meets the weights.

    rows: outputs that share scales; those of a program do where `by_group`
    columns: scales of such outputs
    pieces, tail_pieces: groups of block_k and of tail
    x_stride: of x_scales, from one group to the next
    rounding: inputs are rounded here, after the norm where `normed`; else they are FP8, under x_scales
    """
    if overlapped and early:
        tl.extra.cuda.gdc_launch_dependents()
    first = tl.program_id(0) * block_n
    row = tl.arange(0, block_n)
    n = first + row
    if not even_n:
        row = tl.minimum(n, outs - 1) - first
    starts = weight + first.to(tl.int64) * ins + row[:, None] * ins
    ups = starts + tl.cast(outs, tl.int64) * ins
    k = tl.arange(0, block_k)
    k_tail = block_k + tl.arange(0, tail or 1)
    a = _bytes(starts, k, ins, True)
    c = a
    if gated:
        c = _bytes(ups, k, ins, True)
    a_tail = a
    c_tail = a
    if tail:
        a_tail = _bytes(starts, k_tail, ins, even_k)
        if gated:
            c_tail = _bytes(ups, k_tail, ins, even_k)
    of_groups = scales + (first // rows) * columns
    of_groups_up = scales + ((first + outs) // rows) * columns
    own = _scales(of_groups, 1, 0, ins, pieces, by_group)
    own_up = _scales(of_groups_up, 1, 0, ins, pieces, by_group and gated)
    own_tail = _scales(of_groups, 1, pieces, ins, tail_pieces, by_group)
    own_up_tail = _scales(of_groups_up, 1, pieces, ins, tail_pieces, by_group and gated)
    factor = 1.0
    factor_tail = 1.0
    if normed:
        factor = _row(norm, k, ins, True)
        if tail:
            factor_tail = _row(norm, k_tail, ins, even_k)
    if overlapped:
        tl.extra.cuda.gdc_wait()

    token = tl.arange(0, 1)
    scaled: tl.constexpr = by_group or x_by_group  # not in the loop, whose second turn would define it again
    for i in tl.static_range(count):
        raw = _row(x + i * ins, k, ins, True)
        raw_tail = raw
        if tail:
            raw_tail = _row(x + i * ins, k_tail, ins, even_k)
        wide = raw.to(tl.float32)
        wide_tail = raw_tail.to(tl.float32)
        if normed:
            squares = tl.sum(wide * wide, axis=0)
            if tail:
                squares += tl.sum(wide_tail * wide_tail, axis=0)
            root = tl.rsqrt(squares / ins + eps)
            wide = weighted(wide * root, factor, raw.dtype)
            if tail:
                wide_tail = weighted(wide_tail * root, factor_tail, raw.dtype)
        scale = 1.0
        if rounding:
            if x_by_group:
                x_own = scale_of(largest(wide, block_k, pieces))
                x_own_tail = x_own
                wide = few_bits(wide, x_own, block_k, pieces).to(tl.float32)
                if tail:
                    x_own_tail = scale_of(largest(wide_tail, tail, tail_pieces))
                    wide_tail = few_bits(wide_tail, x_own_tail, tail, tail_pieces).to(tl.float32)
            else:
                most = tl.max(tl.abs(wide), axis=0)
                if tail:
                    most = tl.maximum(most, tl.max(tl.abs(wide_tail), axis=0))
                scale = scale_of(most)
                wide = few_bits(wide, scale, block_k, 1).to(tl.float32)
                if tail:
                    wide_tail = few_bits(wide_tail, scale, tail, 1).to(tl.float32)
        else:
            x_own = _scales(x_scales + i, x_stride, 0, ins, pieces, x_by_group)
            x_own_tail = _scales(x_scales + i, x_stride, pieces, ins, tail_pieces, x_by_group)
            if not x_by_group:
                scale = tl.load(x_scales + i)
        if not x_by_group:
            x_own = 1.0
            x_own_tail = 1.0
        y = _sums(a, wide, own * x_own, block_k, pieces, scaled)
        up = y
        if gated:
            up = _sums(c, wide, own_up * x_own, block_k, pieces, scaled)
        if tail:
            y += _sums(a_tail, wide_tail, own_tail * x_own_tail, tail, tail_pieces, scaled)
            if gated:
                up += _sums(c_tail, wide_tail, own_up_tail * x_own_tail, tail, tail_pieces, scaled)
        if not by_group:
            y = y * tl.load(scales + ((first + row) // rows) * columns)
            if gated:
                up = up * tl.load(scales + ((first + row + outs) // rows) * columns)
        write((y * scale)[:, None], (up * scale)[:, None], 0.0, 1.0, extra, out, n, token + i, count, outs, 0.0, False, gated, kind, activation)  # fmt: skip
    if overlapped and not early:
        tl.extra.cuda.gdc_launch_dependents()


@triton.jit
def _sums(a, b, scales, width: tl.constexpr, pieces: tl.constexpr, scaled: tl.constexpr):
    """Of a token's products with weights.  # [block_n, width], [width], [pieces] -> [block_n]"""
    if scaled:
        b = b * spread(scales, width, pieces)
    return tl.sum(a.to(tl.float32) * b[None, :], axis=1)


@triton.jit
def _scales(scales, stride, first, ins, count: tl.constexpr, wanted: tl.constexpr):
    """Of so many groups; those beyond the last have no inputs.  # [count]"""
    found = 1.0
    if wanted and count:
        found = tl.load(scales + tl.minimum(first + tl.arange(0, count or 1), (ins - 1) // GROUP) * stride)
    return found


@triton.jit
def _row(start, k, ins, even: tl.constexpr):
    if even:
        values = tl.load(start + k, eviction_policy="evict_last")
    else:
        values = tl.load(start + k, mask=k < ins, other=0.0, eviction_policy="evict_last")
    return values


@triton.jit
def _bytes(starts, k, ins, even: tl.constexpr):
    if even:
        values = tl.load(starts + k[None, :], eviction_policy="evict_first")
    else:
        values = tl.load(starts + k[None, :], mask=k[None, :] < ins, other=0.0, eviction_policy="evict_first")
    return values
