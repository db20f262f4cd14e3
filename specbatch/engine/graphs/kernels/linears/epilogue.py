"""What a program of a linear does when its sums are there. N outputs, K inputs, T tokens, as in linear.py."""

# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from specbatch.engine.graphs.kernels.activations import activated

LINE = 128  # bytes that the L2 cache fetches at a time


@triton.jit
def write(y, up, squares, norm_size, extra, out, n, t, tokens, outs, eps, scaled: tl.constexpr, gated: tl.constexpr, kind: tl.constexpr, activation: tl.constexpr):  # fmt: skip
    """Scales by the norm, adds or gates in float32, rounds once; returns what was rounded.  # y, up [block_n, block_t]

    squares: of each token's hidden states, summed; used where `scaled`  # [1, block_t]
    kind: 1 adds a bias, 2 a residual
    activation: code of the gate's
    """
    mask = (n < outs)[:, None] & (t < tokens)[None, :]
    at = t[None, :] * outs + n[:, None]
    if scaled:
        scale = tl.rsqrt(squares / norm_size + eps)
        y = y * scale
        if gated:
            up = up * scale
    if gated:
        y = activated(y, 0.0, 0.0, 0.0, 0.0, activation) * up
    if kind == 1:
        y += tl.load(extra + n, mask=n < outs, other=0.0).to(tl.float32)[:, None]
    if kind == 2:
        y += tl.load(extra + at, mask=mask, other=0.0).to(tl.float32)
    tl.store(out + at, y.to(out.dtype.element_ty), mask=mask)
    return y


@triton.jit
def hand_on(y, out, norm, scaled, squares, tile, n, t, tokens, outs, block_t: tl.constexpr):
    """For the norm that comes next: what was written times its weights, and the tile's sum of squares.  # y [block_n, block_t]"""
    mask = (n < outs)[:, None] & (t < tokens)[None, :]
    wide = tl.where(mask, y.to(out.dtype.element_ty).to(tl.float32), 0.0)
    factor = tl.load(norm + n, mask=n < outs, other=0.0).to(tl.float32)[:, None]
    tl.store(scaled + t[None, :] * outs + n[:, None], (wide * factor).to(out.dtype.element_ty), mask=mask)
    tl.store(squares + tile * block_t + t, tl.sum(wide * wide, axis=0))


@triton.jit
def fetch(weight, lines, program, step: tl.constexpr):
    """Asks for a program's share of the weights that are read next, so that memory is busy between two kernels, too.

    lines: of a program; step: numbers in a line
    """
    i = tl.arange(0, 64)
    start = weight + program.to(tl.int64) * lines * step
    for j in tl.range(0, lines, 64):
        at = start + tl.minimum(j + i, lines - 1) * step
        tl.inline_asm_elementwise(
            "prefetch.global.L2 [$1]; mov.u32 $0, 0;", "=r,l", [at], dtype=tl.int32, is_pure=False, pack=1
        )
