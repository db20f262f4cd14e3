"""Pages in FP8 in kernels: heads are rounded as they are written, and made wide in registers as they are read. See fp8/kv.py."""

# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from specbatch.engine.fp8 import kv, w8a8

_LEAST, _LARGEST = tl.constexpr(kv.LEAST), tl.constexpr(w8a8.LARGEST)


@triton.jit
def size_bits(x):
    """Integers in the order of the numbers' sizes, NaN above all."""
    return tl.abs(x.to(tl.float32)).to(tl.int32, bitcast=True)


@triton.jit
def scale_of(most):
    """The scale of heads by the largest size_bits of their numbers."""
    largest = most.to(tl.float32, bitcast=True)
    scale = tl.div_rn(tl.maximum(largest, _LEAST), _LARGEST)
    return tl.where(most >= 0x7F800000, float("nan"), scale).to(tl.bfloat16)


@triton.jit
def rounded(x, scale):
    """Numbers under their scale."""
    return tl.div_rn(x.to(tl.float32), tl.zeros_like(x).to(tl.float32) + scale.to(tl.float32)).to(tl.float8e4nv)


# The low, or the high, of two e4m3 in each half of a word, to bfloat16: see _FP8 in linears/linear_widen.py.
_LOW = tl.constexpr("""{
.reg .b32 s, u, up;
mov.b32 up, 0x7b807b80;
shl.b32 s, $1, 8;
shl.b32 u, $1, 4;
and.b32 u, u, 0x07f007f0;
lop3.b32 u, s, 0x80008000, u, 0xea;
mul.rn.bf16x2 $0, u, up;
}""")
_HIGH = tl.constexpr("""{
.reg .b32 u, up;
mov.b32 up, 0x7b807b80;
shr.u32 u, $1, 4;
and.b32 u, u, 0x07f007f0;
lop3.b32 u, $1, 0x80008000, u, 0xea;
mul.rn.bf16x2 $0, u, up;
}""")


@triton.jit
def even_and_odd(pairs, dtype: tl.constexpr, native: tl.constexpr):
    """The first and the second of each two e4m3, in another dtype.  # int16"""
    if native >= 9 and dtype == tl.bfloat16:
        even = tl.inline_asm_elementwise(_LOW, "=r,r", [pairs], dtype=tl.bfloat16, is_pure=True, pack=2)
        odd = tl.inline_asm_elementwise(_HIGH, "=r,r", [pairs], dtype=tl.bfloat16, is_pure=True, pack=2)
    else:
        even = pairs.to(tl.uint8).to(tl.float8e4nv, bitcast=True).to(dtype)
        odd = (pairs >> 8).to(tl.uint8).to(tl.float8e4nv, bitcast=True).to(dtype)
    return even, odd
