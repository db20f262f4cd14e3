"""Weights of few bits as numbers of the tokens' dtype, for the tensor cores: int8, and int4, of which a byte holds two inputs half a row apart.

So a row of bytes of int4 stands for two rows of half the inputs, each with its half of the scales, and nothing has to be interleaved.

Conversions of integers run at a small part of the rate of other instructions. So bits are put behind those of 128 in bfloat16, and what
was added is taken off again, two numbers at a time.
"""

# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

GROUP = tl.constexpr(32)  # as in quantization.py

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
# Four bits with the highest turned over are 8 more than their number: behind 128 they are 136 more.
_INT4 = tl.constexpr("""{
.reg .b32 t, one, less;
mov.b32 one, 0x3f803f80;
mov.b32 less, 0xc308c308;
prmt.b32 t, $2, 0, 0x4140;
lop3.b32 t, t, 0x000f000f, 0x43084308, 0x6a;
fma.rn.bf16x2 $0, t, one, less;
prmt.b32 t, $2, 0, 0x4342;
lop3.b32 t, t, 0x000f000f, 0x43084308, 0x6a;
fma.rn.bf16x2 $1, t, one, less;
}""")


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
def widen(values, dtype: tl.constexpr, native: tl.constexpr):
    """Weights of a byte or more in the tokens' dtype.

    native: see linear_dp4a
    """
    if native >= 8 and values.dtype == tl.int8 and dtype == tl.bfloat16:
        numbers = tl.inline_asm_elementwise(_INT8, "=r,=r,r", [values], dtype=tl.bfloat16, is_pure=True, pack=4)
    elif native >= 9 and values.dtype == tl.float8e4nv and dtype == tl.bfloat16:
        numbers = tl.inline_asm_elementwise(_FP8, "=r,=r,r", [values], dtype=tl.bfloat16, is_pure=True, pack=4)
    else:
        numbers = values.to(dtype)
    return numbers


@triton.jit
def widen_int4(codes, scale, shift: tl.constexpr, dtype: tl.constexpr, native: tl.constexpr):
    """The low values of bytes, or the high ones, in the tokens' dtype.  # uint8 [N, K], [N, K / GROUP] -> [N, K]"""
    if native >= 8 and dtype == tl.bfloat16:
        values = tl.inline_asm_elementwise(_INT4, "=r,=r,r", [codes >> shift], dtype=tl.bfloat16, is_pure=True, pack=4)
    else:
        values = ((codes << (4 - shift)).to(tl.int8, bitcast=True) >> 4).to(dtype)
    grouped = tl.reshape(values, (codes.shape[0], codes.shape[1] // GROUP, GROUP)) * scale.to(dtype)[:, :, None]
    return tl.reshape(grouped, (codes.shape[0], codes.shape[1]))
