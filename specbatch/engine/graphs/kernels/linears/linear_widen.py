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
def of_groups(numbers, lines, first, groups, even: tl.constexpr, count: tl.constexpr):
    """Scales, or zero points, of the low values and of the high ones: `count` groups of each from the first; None where there are none.

    lines: where outputs begin  # [N, 1]
    """
    low, high = None, None
    if numbers is not None:
        g = first + tl.arange(0, count)
        at = numbers + lines + g[None, :]
        half = groups // 2
        if even:
            low, high = tl.load(at), tl.load(at + half)
        else:
            mask = (g < half)[None, :]
            low, high = tl.load(at, mask=mask, other=0), tl.load(at + half, mask=mask, other=0)
    return low, high


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
def widen_int4(codes, scale, zero, shift: tl.constexpr, dtype: tl.constexpr, native: tl.constexpr):
    """The low values of bytes, or the high ones, in the tokens' dtype.

    codes: uint8 [N, K]
    scale, zero: of each group; zero may be None  # [N, groups]
    """
    outs: tl.constexpr = codes.shape[0]
    width: tl.constexpr = codes.shape[1]
    groups: tl.constexpr = scale.shape[1]
    if native >= 8 and dtype.primitive_bitwidth == 16:
        more: tl.constexpr = 136.0 if dtype == tl.bfloat16 else 1032.0
        less = tl.full((outs, groups), -more, dtype)
        if zero is not None:
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
        if zero is not None:
            numbers -= _each(zero, outs, groups, width)
        values = numbers.to(dtype)
    grouped = tl.reshape(values, (outs, groups, width // groups)) * scale.to(dtype)[:, :, None]
    return tl.reshape(grouped, (outs, width))


@triton.jit
def _each(of_group, outs: tl.constexpr, groups: tl.constexpr, width: tl.constexpr):
    """A number of each group for each of its inputs.  # [N, groups] -> [N, width]"""
    return tl.reshape(tl.broadcast_to(of_group[:, :, None], (outs, groups, width // groups)), (outs, width))
