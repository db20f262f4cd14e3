"""Weights of four bits in the linears of few tokens, see QuantizedWeight: a byte holds the values of two inputs half a row apart.

So a row of bytes stands for two rows of half the inputs, each with its half of the scales, and nothing has to be interleaved.
"""

# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from specbatch.engine.graphs.kernels.linears.epilogue import write

GROUP = tl.constexpr(32)  # as in quantization.py


@triton.jit
def group_scales(lines, first, groups, even: tl.constexpr, count: tl.constexpr):
    """Scales of the low values and of the high ones, `count` groups of each from the first.  # lines [N, 1] -> twice [N, count]"""
    g = first + tl.arange(0, count)
    at = lines + g[None, :]
    half = groups // 2
    if even:
        low = tl.load(at)
        high = tl.load(at + half)
    else:
        low = tl.load(at, mask=(g < half)[None, :], other=0.0)
        high = tl.load(at + half, mask=(g < half)[None, :], other=0.0)
    return low, high


@triton.jit
def wide(codes, scale, shift: tl.constexpr, dtype: tl.constexpr):
    """The low values of bytes, or the high ones, in the tokens' dtype.  # uint8 [N, K], [N, K / GROUP] -> [N, K]"""
    values = (((codes >> shift) & 15).to(tl.int8) - 8).to(dtype)
    grouped = tl.reshape(values, (codes.shape[0], codes.shape[1] // GROUP, GROUP)) * scale.to(dtype)[:, :, None]
    return tl.reshape(grouped, (codes.shape[0], codes.shape[1]))


@triton.jit
def fma_int4(
    x, norm, weight, scales, extra, out, outs, ins, eps,
    block_n: tl.constexpr, block_k: tl.constexpr, count: tl.constexpr,
    normed: tl.constexpr, gated: tl.constexpr, kind: tl.constexpr,
    even_n: tl.constexpr, even_k: tl.constexpr, early: tl.constexpr, activation: tl.constexpr, overlapped: tl.constexpr,
):  # fmt: skip
    """As linear_fma.fma, of block_k bytes, a power of two no less than there are.

    even_k: there are as many
    """
    if overlapped and early:
        tl.extra.cuda.gdc_launch_dependents()
    first = tl.program_id(0) * block_n
    row = tl.arange(0, block_n)
    n = first + row
    if not even_n:
        row = tl.minimum(n, outs - 1) - first
    half, groups = ins // 2, ins // GROUP
    k = tl.arange(0, block_k)
    rows = weight + first.to(tl.int64) * half + row[:, None] * half
    lines = scales + (first + row)[:, None] * groups
    a = _bytes(rows, k, half, even_k)
    low, high = group_scales(lines, 0, groups, even_k, block_k // GROUP)
    c, low_up, high_up = a, low, high
    if gated:
        c = _bytes(rows + tl.cast(outs, tl.int64) * half, k, half, even_k)
        low_up, high_up = group_scales(lines + outs * groups, 0, groups, even_k, block_k // GROUP)
    factor, factor_high = 1.0, 1.0
    if normed:
        factor = _half(norm, k, half, even_k).to(tl.float32)
        factor_high = _half(norm + half, k, half, even_k).to(tl.float32)
    if overlapped:
        tl.extra.cuda.gdc_wait()

    token = tl.arange(0, 1)
    for i in tl.static_range(count):
        start = x + i * ins
        b = _half(start, k, half, even_k)
        b_high = _half(start + half, k, half, even_k)
        residual = 0.0
        if kind == 2:
            residual = tl.load(extra + i * outs + n, mask=n < outs, other=0.0).to(tl.float32)
        u, v, squares = b.to(tl.float32), b_high.to(tl.float32), 0.0
        if normed:
            squares = tl.sum(u * u, axis=0) + tl.sum(v * v, axis=0)
            u = (u * factor).to(b.dtype).to(tl.float32)
            v = (v * factor_high).to(b.dtype).to(tl.float32)
        y = _sums(a, low, u, 0) + _sums(a, high, v, 4)
        up = y
        if gated:
            up = _sums(c, low_up, u, 0) + _sums(c, high_up, v, 4)
        write((y + residual)[:, None], up[:, None], squares, ins, extra, out, n, token + i, count, outs, eps, normed, gated, kind % 2, activation)  # fmt: skip
    if overlapped and not early:
        tl.extra.cuda.gdc_launch_dependents()


@triton.jit
def _sums(codes, scale, x, shift: tl.constexpr):
    """Products with a token's inputs, summed by group and then by scale; the 8 that is in every code is taken off once a group."""
    groups: tl.constexpr = codes.shape[1] // GROUP
    values = ((codes >> shift) & 15).to(tl.float32) * x[None, :]
    sums = tl.sum(tl.reshape(values, (codes.shape[0], groups, GROUP)), axis=2)
    eights = 8.0 * tl.sum(tl.reshape(x, (groups, GROUP)), axis=1)
    return tl.sum((sums - eights[None, :]) * scale.to(tl.float32), axis=1)


@triton.jit
def _bytes(rows, k, half, even: tl.constexpr):
    if even:
        values = tl.load(rows + k[None, :], eviction_policy="evict_first")
    else:
        values = tl.load(rows + k[None, :], mask=(k < half)[None, :], other=0, eviction_policy="evict_first")
    return values


@triton.jit
def _half(start, k, half, even: tl.constexpr):
    if even:
        values = tl.load(start + k, eviction_policy="evict_last")
    else:
        values = tl.load(start + k, mask=k < half, other=0.0, eviction_policy="evict_last")
    return values
