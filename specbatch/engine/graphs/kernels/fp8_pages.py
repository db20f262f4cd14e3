"""Pages in FP8 in kernels: heads are rounded as they are written, and made wide in registers as they are read. See fp8/kv.py."""

# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from specbatch.engine.fp8 import kv

_SHIFT = tl.constexpr(kv.SHIFT)


@triton.jit
def size_bits(x):
    """Integers in the order of the numbers' sizes, NaN above all."""
    return tl.abs(x.to(tl.float32)).to(tl.int32, bitcast=True)


@triton.jit
def scale_of(most):
    """The scale of heads by the largest size_bits of their numbers."""
    exponent = most >> 23
    scale = (tl.maximum(exponent - _SHIFT, 1) << 23).to(tl.float32, bitcast=True)
    return tl.where(exponent == 255, float("nan"), scale)


@triton.jit
def rounded(x, scale):
    """Numbers under their scale, a power of two."""
    return (x.to(tl.float32) / scale).to(tl.float8e4nv)
