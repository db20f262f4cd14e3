"""Linears of one or two tokens and of weights in int8 or int4, which no instruction makes numbers of before they are multiplied.

GPUs turn integers into floating point at a small part of the rate at which they multiply: done to each weight, that takes about as long as
bfloat16 takes to be read. So a token's inputs become integers instead, once a program: 16 bits with a scale for every four, closer than bfloat16 is,
or, of a drafter's int4, 8 bits; of a checkpoint's int4 16 bits with a scale for every sixteen, whose products are summed as integers. `dp4a` multiplies their high and low bytes with four weights at once, and one sum of four is turned into floating point.

Zero points times the sums of their inputs are taken off.

A word of weights is four bytes: four inputs of int8; or of int4 the values of four inputs and of the four half a row behind them.
"""

# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from specbatch.engine.graphs.kernels.linears.epilogue import write
from specbatch.engine.graphs.kernels.linears.linear_fma import weights_of
from specbatch.engine.graphs.kernels.linears.linear_integers import integer_products, integers_of, products_of, row_of
from specbatch.engine.graphs.kernels.linears.linear_widen import of_groups

SHARED = tl.constexpr(4)  # words of inputs that share a scale, of int4 with zero points


@triton.jit
def fma_words(
    x, norm, weight, scales, extra, out, outs, ins, eps,
    block_n: tl.constexpr, block_k: tl.constexpr, tail: tl.constexpr, count: tl.constexpr,
    int4_group: tl.constexpr, wide: tl.constexpr, native: tl.constexpr,
    normed: tl.constexpr, gated: tl.constexpr, kind: tl.constexpr,
    even_n: tl.constexpr, even_k: tl.constexpr, early: tl.constexpr, activation: tl.constexpr, overlapped: tl.constexpr,
):  # fmt: skip
    """As linear_fma.fma, of rows of block_k + tail words.

    weight: int32 [outs, words]
    scales: of each output, or in int4 of its groups, with zero points in words
    int4_group: inputs of a group of int4, a power of two; 0: weights are int8
    wide: inputs become integers of 16 bits
    native: see linear_integers
    """
    if overlapped and early:
        tl.extra.cuda.gdc_launch_dependents()
    first = tl.program_id(0) * block_n
    row = tl.arange(0, block_n)
    n = first + row
    if not even_n:
        row = tl.minimum(n, outs - 1) - first
    words = ins // 4
    if int4_group:
        words = tl.multiple_of(ins // 8, 8)  # since inputs are a multiple of 64
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
    if int4_group:
        factor_high = _factor(norm, words + k, 2 * words, normed, True)
        if tail:
            factor_high_tail = _factor(norm, words + k_tail, 2 * words, normed, even_k)
    low, high, low_up, high_up = 1.0, 1.0, 1.0, 1.0
    low_tail, high_tail, low_up_tail, high_up_tail = 1.0, 1.0, 1.0, 1.0
    off, off_high, off_up, off_high_up = 1.0, 1.0, 1.0, 1.0  # zero points times scales
    off_tail, off_high_tail, off_up_tail, off_high_up_tail = 1.0, 1.0, 1.0, 1.0
    zeros: tl.constexpr = scales.dtype.element_ty.is_int()
    scale, scale_up = 1.0, 1.0
    if int4_group:
        groups = ins // int4_group
        dtype: tl.constexpr = x.dtype.element_ty
        each: tl.constexpr = int4_group // 4
        lines = (first + row)[:, None] * groups
        low, high, off, off_high = _scaled(scales, lines, 0, groups, block_k // each, dtype)
        if gated:
            low_up, high_up, off_up, off_high_up = _scaled(
                scales, lines + outs * groups, 0, groups, block_k // each, dtype
            )
        if tail:
            start: tl.constexpr = block_k // each
            low_tail, high_tail, off_tail, off_high_tail = _scaled(scales, lines, start, groups, tail // each, dtype)
            if gated:
                low_up_tail, high_up_tail, off_up_tail, off_high_up_tail = _scaled(
                    scales, lines + outs * groups, start, groups, tail // each, dtype
                )
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
        y, up, squares = _stretch(x + i * ins, factor, factor_high, k, words, a, c, low, high, low_up, high_up, off, off_high, off_up, off_high_up, normed, gated, True, int4_group, zeros, wide, native)  # fmt: skip
        if tail:
            y_tail, up_tail, more = _stretch(x + i * ins, factor_tail, factor_high_tail, k_tail, words, a_tail, c_tail, low_tail, high_tail, low_up_tail, high_up_tail, off_tail, off_high_tail, off_up_tail, off_high_up_tail, normed, gated, even_k, int4_group, zeros, wide, native)  # fmt: skip
            y += y_tail
            up += up_tail
            squares += more
        y *= scale
        up *= scale_up
        write((y + residual)[:, None], up[:, None], squares, ins, extra, out, n, token + i, count, outs, eps, normed, gated, kind % 2, activation)  # fmt: skip
    if overlapped and not early:
        tl.extra.cuda.gdc_launch_dependents()


@triton.jit
def _scaled(scales, lines, first, groups, count: tl.constexpr, dtype: tl.constexpr):
    """Scales of low values and high ones; and zero points times these, where there are any, of low values that are 8 more."""
    low, high, zero, zero_high = of_groups(scales, lines, first, groups, count, dtype)
    off, off_high = low, high
    if scales.dtype.element_ty.is_int():
        off, off_high = (zero.to(tl.float32) + 8) * low.to(tl.float32), zero_high.to(tl.float32) * high.to(tl.float32)
    return low, high, off, off_high


@triton.jit
def _stretch(start, factor, factor_high, k, words, a, c, low, high, low_up, high_up, off, off_high, off_up, off_high_up, normed: tl.constexpr, gated: tl.constexpr, even: tl.constexpr, int4_group: tl.constexpr, zeros: tl.constexpr, wide: tl.constexpr, native: tl.constexpr):  # fmt: skip
    """A token's products with some words of weights, those with the ups, and its squares, summed."""
    shared: tl.constexpr = SHARED if zeros else 1
    upper, lower, step, sums, squares = integers_of(start, factor, k, words, normed, even, wide, shared, native)
    if zeros:
        parts = _of_shared((a & 0x0F0F0F0F) ^ 0x08080808, low, off, upper, lower, step, sums, native)
        parts_up = parts
        if gated:
            parts_up = _of_shared((c & 0x0F0F0F0F) ^ 0x08080808, low_up, off_up, upper, lower, step, sums, native)
        upper, lower, step, sums, more = integers_of(start, factor_high, words + k, 2 * words, normed, even, wide, shared, native)  # fmt: skip
        squares += more
        y = tl.sum(
            parts + _of_shared(a & -0x0F0F0F10, high, off_high, upper, lower, step * 0.0625, sums, native), axis=1
        )
        up = y
        if gated:
            up = tl.sum(
                parts_up + _of_shared(c & -0x0F0F0F10, high_up, off_high_up, upper, lower, step * 0.0625, sums, native),
                axis=1,
            )
    elif int4_group:
        y = _of_groups(a << 4, low, lower, step, native)
        up = y
        if gated:
            up = _of_groups(c << 4, low_up, lower, step, native)
        upper, lower, step, sums, more = integers_of(start, factor_high, words + k, 2 * words, normed, even, wide, shared, native)  # fmt: skip
        squares += more
        y += _of_groups(a, high, lower, step, native)
        if gated:
            up += _of_groups(c, high_up, lower, step, native)
    else:
        y = tl.sum(products_of(a, upper, lower, step, wide, native), axis=1)
        up = y
        if gated:
            up = tl.sum(products_of(c, upper, lower, step, wide, native), axis=1)
    return y, up, squares


@triton.jit
def _of_shared(words, scale, off, upper, lower, step, sums, native: tl.constexpr):
    """Products of words of four weights each and inputs of 16 bits, each group's by its scale, less its inputs times `off`.

    scale, off: [N, groups]
    step, sums: of the inputs of SHARED words  # [K / SHARED]

    Returns:
        [N, K / SHARED], to be summed
    """
    outs: tl.constexpr = words.shape[0]
    count: tl.constexpr = words.shape[1] // SHARED
    groups: tl.constexpr = scale.shape[1]
    integers = integer_products(words, upper, lower, True, native)
    whole = tl.sum(tl.reshape(integers, (outs, count, SHARED)), axis=2).to(tl.float32) * step[None, :]
    grouped = tl.reshape(whole, (outs, groups, count // groups)) * scale.to(tl.float32)[:, :, None]
    grouped -= off[:, :, None] * tl.reshape(sums, (1, groups, count // groups))
    return tl.reshape(grouped, (outs, count))


@triton.jit
def _of_groups(words, scale, lower, step, native: tl.constexpr):
    """As products_of the high four bits of each byte, summed; each group's by its scale.  # scale [N, groups] -> [N]"""
    groups: tl.constexpr = scale.shape[1]
    products = products_of(words & -0x0F0F0F10, lower, lower, step * 0.0625, False, native)
    grouped = (
        tl.reshape(products, (words.shape[0], groups, words.shape[1] // groups)) * scale.to(tl.float32)[:, :, None]
    )
    return tl.sum(tl.reshape(grouped, words.shape), axis=1)


@triton.jit
def _factor(norm, k, words, normed: tl.constexpr, even: tl.constexpr):
    """Weights of the norm, where there is one."""
    factor = 1.0
    if normed:
        factor = row_of(norm, k, words, even)
    return factor
