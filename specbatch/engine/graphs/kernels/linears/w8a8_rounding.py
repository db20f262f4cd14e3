"""Norms, and numbers rounded to FP8 under the scale that brings the largest of a group to FP8's largest, as fp8/w8a8.py says."""

# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

_LARGEST = tl.constexpr(448.0)  # of FP8
_LEAST = tl.constexpr(1e-30)  # a group of less is one of zeros: what a scale divides by must not overflow


@triton.jit
def weighted(wide, factor, dtype: tl.constexpr):
    """What a norm gives, in float32: rounded to the dtype of its weights, multiplied, rounded."""
    return (wide.to(factor.dtype).to(tl.float32) * factor.to(tl.float32)).to(dtype).to(tl.float32)


@triton.jit
def largest(wide, width: tl.constexpr, pieces: tl.constexpr):
    """Of each group.  # [width] -> [pieces]"""
    return tl.max(tl.reshape(tl.abs(wide), (pieces, width // pieces)), axis=1)


@triton.jit
def scale_of(most):
    """By the largest: most / 448, rounded once."""
    most = tl.where(most > _LEAST, most, 1.0)
    return divided(most, _LARGEST, 1.0 / _LARGEST)


@triton.jit
def spread(numbers, width: tl.constexpr, pieces: tl.constexpr):
    """One for each of a group.  # [pieces] -> [width]"""
    return tl.reshape(tl.broadcast_to(numbers[:, None], (pieces, width // pieces)), (width,))


@triton.jit
def few_bits(wide, scale, width: tl.constexpr, pieces: tl.constexpr):
    """wide / scale, rounded; scales are of each piece, or of all.  # [width], [pieces] or one -> [width]"""
    inverse = 1.0 / scale
    if pieces > 1:
        scale = spread(scale, width, pieces)
        inverse = spread(inverse, width, pieces)
    else:
        scale = tl.zeros_like(wide) + scale
        inverse = tl.zeros_like(wide) + inverse
    return divided(wide, scale, inverse).to(tl.float8e4nv)


@triton.jit
def divided(x, y, inverse):
    """x / y of float32, rounded once: by the inverse, made right by what that leaves. A division has branches, which would be taken in turn."""
    first = x * inverse
    return tl.fma(tl.fma(-first, y, x), inverse, first)
