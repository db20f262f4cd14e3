"""Keys and values in FP8: e4m3 under a power of two for each token and head, found as they are written.

So a token's numbers depend on that token alone: not on its batch mates, on how its prompt was cut, or on whether it was drafted. A power of two shifts e4m3's
window and costs no precision: what is stored is exact in bfloat16, and rounding again changes nothing. MX formats (OCP, 2023) scale blocks of 32 alike.
"""

from __future__ import annotations

import torch
from torch import Tensor

from specbatch.engine.fp8.w8a8 import FP8

SCALE = torch.bfloat16  # of powers of two
SHIFT = 7  # the largest number of a head comes to lie in [128, 256), of at most 448
_BITS, _SPECIAL, _LEAST = (
    23,
    255,
    1,
)  # of float32: where the exponent begins, that of infinity and NaN, the smallest one of a normal number


def head_bytes(width: int, dtype: torch.dtype) -> int:
    """Bytes of a head's keys, or values, of one token."""
    return width * dtype.itemsize + (SCALE.itemsize if dtype == FP8 else 0)


def rounded(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rounds heads to FP8. One that is not finite gets a scale of NaN, which makes NaN of all that sees it.

    Args:
        x: [..., D]

    Returns:
        values, FP8 [..., D]; scales, SCALE [...]
    """
    wide = x.float()
    exponent = wide.abs().view(torch.int32).amax(-1) >> _BITS
    scale = ((exponent - SHIFT).clamp(min=_LEAST) << _BITS).view(torch.float32)
    scale = scale.masked_fill(exponent == _SPECIAL, torch.nan)
    return (wide / scale[..., None]).to(FP8), scale.to(SCALE)


def widened(values: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    """What rounded has rounded.  # [..., D], [...] -> [..., D]"""
    return (values.float() * scales.float()[..., None]).to(dtype)


def as_kept(x: Tensor) -> Tensor:
    """Heads as they are after having been kept in FP8.  # [..., D]"""
    return widened(*rounded(x), x.dtype)
