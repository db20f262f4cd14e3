"""Inputs of linears rounded to FP8, after the norm where there is one; and weights made wide. See linears/w8a8.py."""

# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from specbatch.engine.graphs.kernels.linears.w8a8 import GROUP
from specbatch.engine.graphs.kernels.linears.w8a8_rounding import few_bits, largest, scale_of, spread, weighted


@triton.jit
def round_inputs(
    x, norm, values, scales, ins, groups, stride, eps,
    width: tl.constexpr, by_group: tl.constexpr, normed: tl.constexpr, back: tl.constexpr,
    early: tl.constexpr, overlapped: tl.constexpr,
):  # fmt: skip
    """Rounds a stretch of a token's inputs to FP8, after the norm where `normed`; a stretch is all of them then, or without groups.

    stride: of scales, from one group to the next
    back: what is stored is times the scales again, in the dtype of `values`
    early: lets the linear start at once, which asks for its weights
    """
    if overlapped and early:
        tl.extra.cuda.gdc_launch_dependents()
    row = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    k = part * width + tl.arange(0, width)
    factor = 1.0
    if normed:
        factor = tl.load(norm + k, mask=k < ins, other=0.0)
    if overlapped:
        tl.extra.cuda.gdc_wait()
    raw = tl.load(x + row * ins + k, mask=k < ins, other=0.0)
    wide = raw.to(tl.float32)
    if normed:
        wide = wide * tl.rsqrt(tl.sum(wide * wide, axis=0) / ins + eps)
        wide = weighted(wide, factor, raw.dtype)
    if overlapped and not early:
        tl.extra.cuda.gdc_launch_dependents()
    pieces: tl.constexpr = width // GROUP if by_group else 1
    if by_group:
        scale = scale_of(largest(wide, width, pieces))
        group = part * pieces + tl.arange(0, pieces)
        if not back:
            tl.store(scales + group * stride + row, scale, mask=group < groups)
    else:
        scale = scale_of(tl.max(tl.abs(wide), axis=0))
        if not back:
            tl.store(scales + row, scale)
    rounded = few_bits(wide, scale, width, pieces)
    if back:
        each = spread(scale, width, pieces) if by_group else scale
        tl.store(values + row * ins + k, (rounded.to(tl.float32) * each).to(raw.dtype), mask=k < ins)
    else:
        tl.store(values + row * ins + k, rounded, mask=k < ins)


@triton.jit
def widen(
    values, scales, out, ins, columns, rows, width: tl.constexpr, by_group: tl.constexpr, overlapped: tl.constexpr
):
    """A stretch of an output's weights times their scales, rounded to the dtype of `out`."""
    if overlapped:
        tl.extra.cuda.gdc_wait()
    row = tl.program_id(0).to(tl.int64)
    k = tl.program_id(1) * width + tl.arange(0, width)
    wide = tl.load(values + row * ins + k, mask=k < ins, other=0.0).to(tl.float32)
    at = scales + (row // rows) * columns
    scale = tl.load(at)
    if by_group:
        scale = tl.load(at + k // GROUP, mask=k < ins, other=0.0)
    tl.store(out + row * ins + k, (wide * scale).to(out.dtype.element_ty), mask=k < ins)
