"""Inputs of linears rounded to FP8, after the norm where there is one; and weights made wide. See linears/w8a8.py."""

# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from specbatch.engine.graphs.kernels.linears.w8a8 import GROUP


@triton.jit
def round_inputs(
    x, norm, values, scales, ins, groups, eps,
    width: tl.constexpr, by_group: tl.constexpr, normed: tl.constexpr, back: tl.constexpr,
    early: tl.constexpr, overlapped: tl.constexpr,
):  # fmt: skip
    """Rounds a stretch of a token's inputs to FP8, after the norm where `normed`; a stretch is all of them then, or without groups.

    back: what is stored is times the scales again, in the dtype of `values`
    early: lets the linear start at once, which asks for its weights
    """
    if overlapped and early:
        tl.extra.cuda.gdc_launch_dependents()
    if overlapped:
        tl.extra.cuda.gdc_wait()
    row = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    k = part * width + tl.arange(0, width)
    raw = tl.load(x + row * ins + k, mask=k < ins, other=0.0)
    wide = raw.to(tl.float32)
    if normed:
        factor = tl.load(norm + k, mask=k < ins, other=0.0)
        wide = wide * tl.rsqrt(tl.sum(wide * wide, axis=0) / ins + eps)
        wide = (wide.to(factor.dtype) * factor).to(raw.dtype).to(tl.float32)
    if overlapped and not early:
        tl.extra.cuda.gdc_launch_dependents()
    if by_group:
        count: tl.constexpr = width // GROUP
        tiles = tl.reshape(wide, (count, GROUP))
        most = tl.max(tl.abs(tiles), axis=1)
        scale = tl.div_rn(tl.where(most > 0, most, 1.0), 448.0)
        each = tl.reshape(tl.broadcast_to(scale[:, None], (count, GROUP)), (width,))
        group = part * count + tl.arange(0, count)
        if not back:
            tl.store(scales + row * groups + group, scale, mask=group < groups)
    else:
        most = tl.max(tl.abs(wide), axis=0)
        scale = tl.div_rn(tl.where(most > 0, most, 1.0), 448.0)
        each = tl.zeros_like(wide) + scale
        if not back:
            tl.store(scales + row, scale)
    rounded = tl.minimum(tl.maximum(tl.div_rn(wide, each), -448.0), 448.0).to(tl.float8e4nv)
    if back:
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
