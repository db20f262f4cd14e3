"""A token's inputs as integers, and their products with words of four weights, for linear_dp4a."""

# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"

from __future__ import annotations

from functools import cache

import torch
import triton
import triton.language as tl

ROUND = tl.constexpr(12582912.0)  # 1.5 * 2^23: what is added to it is rounded, and its integer stands in the low bits


@cache
def native(device: torch.device) -> int:
    """Major compute capability of an NVIDIA GPU, whose instructions are asked for by name; elsewhere 0: what they do is worked out."""
    if device.type != "cuda" or torch.version.hip is not None or triton.knobs.runtime.interpret:
        return 0
    return torch.cuda.get_device_capability(device)[0]


@triton.jit
def integers_of(
    start, factor, k, words, normed: tl.constexpr, even: tl.constexpr, wide: tl.constexpr,
    shared: tl.constexpr, native: tl.constexpr,
):  # fmt: skip
    """A token's inputs as integers, four a word: their high bytes, their low ones, scales, sums of what shares one; and the sum of squares.

    words: that there are, beyond which inputs are 0
    wide: of 16 bits; else of 8, and there are no low bytes
    shared: words that share a scale
    """
    b = row_of(start, k, words, even).to(tl.float32)
    squares = 0.0
    if normed:
        squares = tl.sum(tl.sum(b * b, axis=1), axis=0)
        b *= factor.to(tl.float32)
    even_two, odd_two = tl.split(tl.reshape(b, (b.shape[0], 2, 2)))
    b0, b2 = tl.split(even_two)
    b1, b3 = tl.split(odd_two)
    most = _most(_most(_most(tl.abs(b0), tl.abs(b1)), _most(tl.abs(b2), tl.abs(b3))), 1e-30)
    sums = (b0 + b1) + (b2 + b3)
    if shared > 1:
        most = tl.reduce(tl.reshape(most, (b.shape[0] // shared, shared)), 1, _most)
        sums = tl.sum(tl.reshape(sums, (b.shape[0] // shared, shared)), axis=1)
    largest: tl.constexpr = 32767.0 if wide else 127.0
    if native:
        each = largest * tl.inline_asm_elementwise(
            "rcp.approx.ftz.f32 $0, $1;", "=r,r", [most], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        each = largest / most
    if shared > 1:
        each = tl.reshape(tl.broadcast_to(each[:, None], (each.shape[0], shared)), (b.shape[0],))
    i0, i1, i2, i3 = _rounded(b0 * each), _rounded(b1 * each), _rounded(b2 * each), _rounded(b3 * each)
    lower = _bytes(i0, i1, i2, i3, 0, native)
    upper = lower
    if wide:
        upper = _bytes(i0, i1, i2, i3, 1, native)
    return upper, lower, most * (1.0 / largest), sums, squares


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
def products_of(words, upper, lower, step, wide: tl.constexpr, native: tl.constexpr):
    """Of each word's four weights and inputs, summed.  # int32 [N, K], int32 [K] twice, [K] -> [N, K]"""
    return integer_products(words, upper, lower, wide, native).to(tl.float32) * step[None, :]


@triton.jit
def integer_products(words, upper, lower, wide: tl.constexpr, native: tl.constexpr):
    """As products_of, before scales.  # int32 [N, K]"""
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
    return sums


@triton.jit
def row_of(start, k, words, even: tl.constexpr):
    """Four numbers a word.  # [K, 4]"""
    at = k[:, None] * 4 + tl.arange(0, 4)[None, :]
    if even:
        values = tl.load(start + at, eviction_policy="evict_last")
    else:
        values = tl.load(start + at, mask=at < 4 * words, other=0.0, eviction_policy="evict_last")
    return values
