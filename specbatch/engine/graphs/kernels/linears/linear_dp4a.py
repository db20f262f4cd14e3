"""Linears of one or two tokens and of weights in int8 or int4, which no instruction makes numbers of before they are multiplied.

GPUs turn integers into floating point at a small part of the rate at which they multiply: done to each weight, that takes about as long as
bfloat16 takes to be read. So a token's inputs become integers instead, once a program: 16 bits with a scale for every four, closer than bfloat16 is,
or, of int4, 8 bits. `dp4a` multiplies their high and low bytes with four weights at once, and one sum of four is turned into floating point.

A word of weights is four bytes: four inputs of int8; or of int4 the values of four inputs and of the four half a row behind them.
"""

# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"

from __future__ import annotations

from functools import cache

import torch
import triton
import triton.language as tl

from specbatch.engine.graphs.kernels.linears.epilogue import write
from specbatch.engine.graphs.kernels.linears.linear_fma import weights_of
from specbatch.engine.graphs.kernels.linears.linear_widen import GROUP, group_scales

WORDS = tl.constexpr(8)  # of int4 that share a scale: GROUP bytes
ROUND = tl.constexpr(12582912.0)  # 1.5 * 2^23: what is added to it is rounded, and its integer stands in the low bits


@cache
def native(device: torch.device) -> int:
    """Major compute capability of an NVIDIA GPU, whose instructions are asked for by name; elsewhere 0: what they do is worked out."""
    if device.type != "cuda" or torch.version.hip is not None or triton.knobs.runtime.interpret:
        return 0
    return torch.cuda.get_device_capability(device)[0]


@triton.jit
def fma_words(
    x, norm, weight, scales, extra, out, outs, ins, eps,
    block_n: tl.constexpr, block_k: tl.constexpr, tail: tl.constexpr, count: tl.constexpr, int4: tl.constexpr, native: tl.constexpr,
    normed: tl.constexpr, gated: tl.constexpr, kind: tl.constexpr,
    even_n: tl.constexpr, even_k: tl.constexpr, early: tl.constexpr, activation: tl.constexpr, overlapped: tl.constexpr,
):  # fmt: skip
    """As linear_fma.fma, of rows of block_k + tail words.

    weight: int32 [outs, words]
    scales: of each output, or in int4 of its groups
    native: see above
    """
    if overlapped and early:
        tl.extra.cuda.gdc_launch_dependents()
    first = tl.program_id(0) * block_n
    row = tl.arange(0, block_n)
    n = first + row
    if not even_n:
        row = tl.minimum(n, outs - 1) - first
    words = ins // 4
    if int4:
        words = ins // 8
    rows = weight + first.to(tl.int64) * words + row[:, None] * words
    ups = rows + tl.cast(outs, tl.int64) * words
    k = tl.arange(0, block_k)
    a = weights_of(rows, k, words, True)
    c = a
    if gated:
        c = weights_of(ups, k, words, True)
    if tail:
        k_tail = block_k + tl.arange(0, tail)
        a_tail = weights_of(rows, k_tail, words, even_k)
        c_tail = a_tail
        if gated:
            c_tail = weights_of(ups, k_tail, words, even_k)
    factor = _factor(norm, k, words, normed, True)
    factor_high, factor_tail, factor_high_tail = factor, factor, factor
    if tail:
        factor_tail = _factor(norm, k_tail, words, normed, even_k)
    if int4:
        factor_high = _factor(norm, words + k, 2 * words, normed, True)
        if tail:
            factor_high_tail = _factor(norm, words + k_tail, 2 * words, normed, even_k)
    low, high, low_up, high_up = 1.0, 1.0, 1.0, 1.0
    low_tail, high_tail, low_up_tail, high_up_tail = 1.0, 1.0, 1.0, 1.0
    scale, scale_up = 1.0, 1.0
    if int4:
        groups = ins // GROUP
        lines = scales + (first + row)[:, None] * groups
        low, high = group_scales(lines, 0, groups, True, block_k // WORDS)
        if gated:
            low_up, high_up = group_scales(lines + outs * groups, 0, groups, True, block_k // WORDS)
        if tail:
            start: tl.constexpr = block_k // WORDS
            low_tail, high_tail = group_scales(lines, start, groups, even_k, tail // WORDS)
            if gated:
                low_up_tail, high_up_tail = group_scales(lines + outs * groups, start, groups, even_k, tail // WORDS)
    else:
        scale = tl.load(scales + first + row)
        if gated:
            scale_up = tl.load(scales + outs + first + row)
    if overlapped:
        tl.extra.cuda.gdc_wait()

    token = tl.arange(0, 1)
    for i in tl.static_range(count):
        residual = 0.0
        if kind == 2:
            residual = tl.load(extra + i * outs + n, mask=n < outs, other=0.0).to(tl.float32)
        y, up, squares = _stretch(x + i * ins, factor, factor_high, k, words, a, c, low, high, low_up, high_up, normed, gated, True, int4, native)  # fmt: skip
        if tail:
            y_tail, up_tail, more = _stretch(x + i * ins, factor_tail, factor_high_tail, k_tail, words, a_tail, c_tail, low_tail, high_tail, low_up_tail, high_up_tail, normed, gated, even_k, int4, native)  # fmt: skip
            y += y_tail
            up += up_tail
            squares += more
        y *= scale
        up *= scale_up
        write((y + residual)[:, None], up[:, None], squares, ins, extra, out, n, token + i, count, outs, eps, normed, gated, kind % 2, activation)  # fmt: skip
    if overlapped and not early:
        tl.extra.cuda.gdc_launch_dependents()


@triton.jit
def _stretch(start, factor, factor_high, k, words, a, c, low, high, low_up, high_up, normed: tl.constexpr, gated: tl.constexpr, even: tl.constexpr, int4: tl.constexpr, native: tl.constexpr):  # fmt: skip
    """A token's products with some words of weights, those with the ups, and its squares, summed. In int4, 8 bits are closer than weights are."""
    upper, lower, step, squares = _integers(start, factor, k, words, normed, even, not int4, native)
    if int4:
        y = _of_groups(a << 4, low, lower, step, native)
        up = y
        if gated:
            up = _of_groups(c << 4, low_up, lower, step, native)
        upper, lower, step, more = _integers(start, factor_high, words + k, 2 * words, normed, even, False, native)
        squares += more
        y += _of_groups(a, high, lower, step, native)
        if gated:
            up += _of_groups(c, high_up, lower, step, native)
    else:
        y = tl.sum(_products(a, upper, lower, step, True, native), axis=1)
        up = y
        if gated:
            up = tl.sum(_products(c, upper, lower, step, True, native), axis=1)
    return y, up, squares


@triton.jit
def _integers(
    start, factor, k, words, normed: tl.constexpr, even: tl.constexpr, wide: tl.constexpr, native: tl.constexpr
):
    """A token's inputs as integers, four a word: their high bytes, their low ones, the scale of each four, and the sum of squares.

    words: that there are, beyond which inputs are 0
    wide: of 16 bits; else of 8, and there are no low bytes
    """
    b = _row(start, k, words, even).to(tl.float32)
    squares = 0.0
    if normed:
        squares = tl.sum(tl.sum(b * b, axis=1), axis=0)
        b *= factor.to(tl.float32)
    even_two, odd_two = tl.split(tl.reshape(b, (b.shape[0], 2, 2)))
    b0, b2 = tl.split(even_two)
    b1, b3 = tl.split(odd_two)
    most = _most(_most(_most(tl.abs(b0), tl.abs(b1)), _most(tl.abs(b2), tl.abs(b3))), 1e-30)
    largest: tl.constexpr = 32767.0 if wide else 127.0
    if native:
        each = largest * tl.inline_asm_elementwise(
            "rcp.approx.ftz.f32 $0, $1;", "=r,r", [most], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        each = largest / most
    i0, i1, i2, i3 = _rounded(b0 * each), _rounded(b1 * each), _rounded(b2 * each), _rounded(b3 * each)
    lower = _bytes(i0, i1, i2, i3, 0, native)
    upper = lower
    if wide:
        upper = _bytes(i0, i1, i2, i3, 1, native)
    return upper, lower, most * (1.0 / largest), squares


@triton.jit
def _most(a, b):
    """What is no number stays visible."""
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def _rounded(value):
    """To the nearest integer, in the low 16 bits."""
    return (value + ROUND).to(tl.int32, bitcast=True)


@triton.jit
def _bytes(a, b, c, d, place: tl.constexpr, native: tl.constexpr):
    """The byte in that place of four integers, as one."""
    if native:
        word = tl.inline_asm_elementwise(
            f"{{ .reg .b32 t, u; prmt.b32 t, $1, $2, {0x51 if place else 0x40}; prmt.b32 u, $3, $4, {0x51 if place else 0x40}; prmt.b32 $0, t, u, 0x5410; }}",
            "=r,r,r,r,r", [a, b, c, d], dtype=tl.int32, is_pure=True, pack=1,
        )  # fmt: skip
    else:
        first = ((a >> (8 * place)) & 255) | (((b >> (8 * place)) & 255) << 8)
        word = first | (((c >> (8 * place)) & 255) << 16) | ((d >> (8 * place)) << 24)
    return word


@triton.jit
def _products(words, upper, lower, step, wide: tl.constexpr, native: tl.constexpr):
    """Of each word's four weights and inputs, summed.  # int32 [N, K], int32 [K] twice, [K] -> [N, K]"""
    low = tl.broadcast_to(lower[None, :], words.shape)
    if native and wide:
        high = tl.broadcast_to(upper[None, :], words.shape)
        sums = tl.inline_asm_elementwise(
            "{ .reg .s32 t; dp4a.s32.s32 t, $1, $2, 0; shl.b32 t, t, 8; dp4a.s32.u32 $0, $1, $3, t; }",
            "=r,r,r,r", [words, high, low], dtype=tl.int32, is_pure=True, pack=1,
        )  # fmt: skip
    elif native:
        sums = tl.inline_asm_elementwise(
            "dp4a.s32.s32 $0, $1, $2, 0;", "=r,r,r", [words, low], dtype=tl.int32, is_pure=True, pack=1
        )
    else:
        sums = tl.zeros_like(words)
        for j in tl.static_range(4):
            value = (low << (24 - 8 * j)) >> 24
            if wide:
                value = (((upper[None, :] << (24 - 8 * j)) >> 24) << 8) + (value & 255)
            sums += ((words << (24 - 8 * j)) >> 24) * value
    return sums.to(tl.float32) * step[None, :]


@triton.jit
def _of_groups(words, scale, lower, step, native: tl.constexpr):
    """As _products of the high four bits of each byte, summed; each group's by its scale.  # scale [N, K / WORDS] -> [N]"""
    products = _products(words & -0x0F0F0F10, lower, lower, step * 0.0625, False, native)
    grouped = tl.reshape(products, (words.shape[0], words.shape[1] // WORDS, WORDS)) * scale.to(tl.float32)[:, :, None]
    return tl.sum(tl.reshape(grouped, words.shape), axis=1)


@triton.jit
def _factor(norm, k, words, normed: tl.constexpr, even: tl.constexpr):
    """Weights of the norm, where there is one."""
    factor = 1.0
    if normed:
        factor = _row(norm, k, words, even)
    return factor


@triton.jit
def _row(start, k, words, even: tl.constexpr):
    """Four numbers a word.  # [K, 4]"""
    at = k[:, None] * 4 + tl.arange(0, 4)[None, :]
    if even:
        values = tl.load(start + at, eviction_policy="evict_last")
    else:
        values = tl.load(start + at, mask=at < 4 * words, other=0.0, eviction_policy="evict_last")
    return values
