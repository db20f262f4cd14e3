"""Weights of few bits as numbers of the tokens' dtype, for the tensor cores: int8, and int4, of which a byte holds two inputs half a row apart.

So a row of bytes of int4 stands for two rows of half the inputs, each with its half of the scales and zero points, and nothing has to be
interleaved.

Conversions of integers run at a small part of the rate of other instructions. So bits are put behind those of 128 in bfloat16, of 1024 in
float16, and what was added is taken off again, two numbers at a time; zero points are taken off with it.
"""

# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

# Bytes b of a word to the low bytes of two halves each. Seven bits behind 128 are 128 + b, or 256 where the eighth is set, of which 128 is -b's.
_INT8 = tl.constexpr("""{
.reg .b32 t, u, v, one;
mov.b32 one, 0xbf80bf80;
prmt.b32 t, $2, 0, 0x4140;
lop3.b32 u, t, 0x007f007f, 0x43004300, 0xea;
lop3.b32 v, t, 0x00800080, 0x43004300, 0xea;
fma.rn.bf16x2 $0, v, one, u;
prmt.b32 t, $2, 0, 0x4342;
lop3.b32 u, t, 0x007f007f, 0x43004300, 0xea;
lop3.b32 v, t, 0x00800080, 0x43004300, 0xea;
fma.rn.bf16x2 $1, v, one, u;
}""")
# Sign, exponent and fraction of e4m3 to where bfloat16 has them; its exponent counts from 2^-120 of bfloat16's.
_FP8 = tl.constexpr("""{
.reg .b32 t, u, up;
mov.b32 up, 0x7b807b80;
prmt.b32 t, $2, 0, 0x1404;
shr.u32 u, t, 4;
and.b32 u, u, 0x07f007f0;
lop3.b32 u, t, 0x80008000, u, 0xea;
mul.rn.bf16x2 $0, u, up;
prmt.b32 t, $2, 0, 0x3424;
shr.u32 u, t, 4;
and.b32 u, u, 0x07f007f0;
lop3.b32 u, t, 0x80008000, u, 0xea;
mul.rn.bf16x2 $1, u, up;
}""")
# Four bits with the highest turned over are 8 more than their number: behind 128 they are 136 more, behind 1024 1032 more. $3 and $4 are
# minus that, and minus zero points.
_INT4 = tl.constexpr("""{
.reg .b32 t, one;
mov.b32 one, 0x3f803f80;
prmt.b32 t, $2, 0, 0x4140;
lop3.b32 t, t, 0x000f000f, 0x43084308, 0x6a;
fma.rn.bf16x2 $0, t, one, $3;
prmt.b32 t, $2, 0, 0x4342;
lop3.b32 t, t, 0x000f000f, 0x43084308, 0x6a;
fma.rn.bf16x2 $1, t, one, $4;
}""")
_INT4_HALF = tl.constexpr("""{
.reg .b32 t;
prmt.b32 t, $2, 0, 0x4140;
lop3.b32 t, t, 0x000f000f, 0x64086408, 0x6a;
add.rn.f16x2 $0, t, $3;
prmt.b32 t, $2, 0, 0x4342;
lop3.b32 t, t, 0x000f000f, 0x64086408, 0x6a;
add.rn.f16x2 $1, t, $4;
}""")


@triton.jit
def of_groups(scales, lines, first, groups, count: tl.constexpr, dtype: tl.constexpr):
    """Scales of the low values and of the high ones, `count` groups of each from the first; then their zero points, where words hold both.

    lines: where outputs begin; groups behind the last are the last again, of inputs that are 0  # [N, 1]
    dtype: of both in a word: one load that is wide enough to be put in flight
    """
    half = groups // 2
    at = scales + lines + tl.minimum(first + tl.arange(0, count), half - 1)[None, :]
    low, high = tl.load(at), tl.load(at + half)
    zero, zero_high = low, high
    if scales.dtype.element_ty.is_int():
        low, zero = _scale_and_zero(low, dtype)
        high, zero_high = _scale_and_zero(high, dtype)
    return low, high, zero, zero_high


@triton.jit
def _scale_and_zero(word, dtype: tl.constexpr):
    """The numbers in the low bits of a word and in the high ones."""
    bits: tl.constexpr = dtype.primitive_bitwidth
    integer: tl.constexpr = tl.int16 if bits == 16 else tl.int32
    return word.to(integer).to(dtype, bitcast=True), (word >> bits).to(integer).to(dtype, bitcast=True)


@triton.jit
def widen(values, dtype: tl.constexpr, native: tl.constexpr):
    """Weights of a byte or more in the tokens' dtype.

    native: see linear_integers
    """
    if native >= 8 and values.dtype == tl.int8 and dtype == tl.bfloat16:
        numbers = tl.inline_asm_elementwise(_INT8, "=r,=r,r", [values], dtype=tl.bfloat16, is_pure=True, pack=4)
    elif native >= 9 and values.dtype == tl.float8e4nv and dtype == tl.bfloat16:
        numbers = tl.inline_asm_elementwise(_FP8, "=r,=r,r", [values], dtype=tl.bfloat16, is_pure=True, pack=4)
    else:
        numbers = values.to(dtype)
    return numbers


@triton.jit
def widen_int4(
    codes, scale, zero, zeroed: tl.constexpr, shift: tl.constexpr, dtype: tl.constexpr, native: tl.constexpr
):
    """The low values of bytes, or the high ones, in the tokens' dtype.

    codes: uint8 [N, K]
    scale, zero: of each group  # [N, groups]
    zeroed: whether there are zero points
    """
    outs: tl.constexpr = codes.shape[0]
    width: tl.constexpr = codes.shape[1]
    groups: tl.constexpr = scale.shape[1]
    if native >= 8 and dtype.primitive_bitwidth == 16:
        more: tl.constexpr = 136.0 if dtype == tl.bfloat16 else 1032.0
        less = tl.full((outs, groups), -more, dtype)
        if zeroed:
            less -= zero.to(dtype)
        each = _each(less, outs, groups, width)
        if dtype == tl.bfloat16:
            values = tl.inline_asm_elementwise(
                _INT4, "=r,=r,r,r,r", [codes >> shift, each], dtype=tl.bfloat16, is_pure=True, pack=4
            )
        else:
            values = tl.inline_asm_elementwise(
                _INT4_HALF, "=r,=r,r,r,r", [codes >> shift, each], dtype=tl.float16, is_pure=True, pack=4
            )
    else:
        numbers = (codes << (4 - shift)).to(tl.int8, bitcast=True) >> 4
        if zeroed:
            numbers -= _each(zero, outs, groups, width)
        values = numbers.to(dtype)
    grouped = tl.reshape(values, (outs, groups, width // groups)) * scale.to(dtype)[:, :, None]
    return tl.reshape(grouped, (outs, width))


@triton.jit
def _each(of_group, outs: tl.constexpr, groups: tl.constexpr, width: tl.constexpr):
    """A number of each group for each of its inputs.  # [N, groups] -> [N, width]"""
    return tl.reshape(tl.broadcast_to(of_group[:, :, None], (outs, groups, width // groups)), (outs, width))
