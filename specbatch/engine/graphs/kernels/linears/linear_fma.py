"""Linears of one or two tokens, multiplied in registers: the tensor cores would have nothing to do, and the norm can be folded in.

A program lets the next kernel start, asks for all its weights, and only then waits for the kernel before it: so the weights of several
linears are on their way while one works on what the last left. What remains to be done after the wait is what a linear costs beyond its
bytes: few warps share a line, inputs and residual are asked for together, and nothing is asked for late.
"""

# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from specbatch.engine.graphs.kernels.linears.epilogue import write


@triton.jit
def fma(
    x, norm, weight, scales, extra, out, outs, ins, eps,
    block_n: tl.constexpr, block_k: tl.constexpr, tail: tl.constexpr, count: tl.constexpr,
    normed: tl.constexpr, gated: tl.constexpr, kind: tl.constexpr,
    even_n: tl.constexpr, even_k: tl.constexpr, early: tl.constexpr, activation: tl.constexpr, overlapped: tl.constexpr,
):  # fmt: skip
    """A program's block_n outputs of `count` tokens, over all of K = block_k + tail, both powers of two; see linear.py.

    scales: of the weights of each output, or None
    even_k: there are as many inputs; if not, a mask is in the way of what is asked for
    """
    if overlapped and early:
        tl.extra.cuda.gdc_launch_dependents()
    first = tl.program_id(0) * block_n
    row = tl.arange(0, block_n)
    n = first + row
    if not even_n:
        row = tl.minimum(n, outs - 1) - first
    rows = weight + first.to(tl.int64) * ins + row[:, None] * ins
    ups = rows + tl.cast(outs, tl.int64) * ins
    k = tl.arange(0, block_k)
    a = weights_of(rows, k, ins, True)
    c = a
    if gated:
        c = weights_of(ups, k, ins, True)
    factor = 1.0
    if normed:
        factor = _row(norm, k, ins, True)
    if tail:
        k_tail = block_k + tl.arange(0, tail)
        a_tail = weights_of(rows, k_tail, ins, even_k)
        c_tail = a_tail
        if gated:
            c_tail = weights_of(ups, k_tail, ins, even_k)
        factor_tail = 1.0
        if normed:
            factor_tail = _row(norm, k_tail, ins, even_k)
    if scales is not None:
        scale = tl.load(scales + first + row)
        scale_up = scale
        if gated:
            scale_up = tl.load(scales + outs + first + row)
    if overlapped:
        tl.extra.cuda.gdc_wait()

    token = tl.arange(0, 1)
    for i in tl.static_range(count):
        start = x + i * ins
        b = _row(start, k, ins, True)
        if tail:
            b_tail = _row(start, k_tail, ins, even_k)
        residual = 0.0
        if kind == 2:
            residual = tl.load(extra + i * outs + n, mask=n < outs, other=0.0).to(tl.float32)
        y, up, squares = _sums(a, c, b, factor, normed, gated)
        if tail:
            y_tail, up_tail, squares_tail = _sums(a_tail, c_tail, b_tail, factor_tail, normed, gated)
            y += y_tail
            up += up_tail
            squares += squares_tail
        if scales is not None:
            y *= scale
            up *= scale_up
        # With the residual in it, there is nothing but a bias left to add.
        write((y + residual)[:, None], up[:, None], squares, ins, extra, out, n, token + i, count, outs, eps, normed, gated, kind % 2, activation)  # fmt: skip
    if overlapped and not early:
        tl.extra.cuda.gdc_launch_dependents()


@triton.jit
def _sums(a, c, b, factor, normed: tl.constexpr, gated: tl.constexpr):
    """A token's products with the weights, those with the ups, and its squares, summed."""
    wide = b.to(tl.float32)
    squares = 0.0
    if normed:
        squares = tl.sum(wide * wide, axis=0)
        wide = (wide * factor.to(tl.float32)).to(b.dtype).to(tl.float32)
    y = tl.sum(a.to(tl.float32) * wide[None, :], axis=1)
    up = y
    if gated:
        up = tl.sum(c.to(tl.float32) * wide[None, :], axis=1)
    return y, up, squares


@triton.jit
def weights_of(rows, k, ins, even: tl.constexpr):
    """Of some outputs, each read once."""
    if even:
        values = tl.load(rows + k[None, :], eviction_policy="evict_first")
    else:
        values = tl.load(rows + k[None, :], mask=k[None, :] < ins, other=0.0, eviction_policy="evict_first")
    return values


@triton.jit
def _row(start, k, ins, even: tl.constexpr):
    if even:
        values = tl.load(start + k, eviction_policy="evict_last")
    else:
        values = tl.load(start + k, mask=k < ins, other=0.0, eviction_policy="evict_last")
    return values
