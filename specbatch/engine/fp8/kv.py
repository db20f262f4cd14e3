"""Keys and values in FP8: e4m3 under a scale of each token and head, found as they are written.

So a token's numbers depend on that token alone: not on its batch mates, on how its prompt was cut, or on whether it was drafted. The
largest number of a head is kept to a 500th: where one channel outweighs the others, as in keys, a power of two would round that, too.
"""

from __future__ import annotations

import torch
from torch import Tensor

from specbatch.engine.fp8.w8a8 import FP8, LARGEST

SCALE = torch.bfloat16
LEAST = 1e-30  # of a head's largest number: below it there is no scale of 16 bits to divide by


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
    largest = wide.abs().amax(-1)
    scales = (largest.clamp(min=LEAST) / LARGEST).masked_fill(~largest.isfinite(), torch.nan).to(SCALE)
    return (wide / scales.float()[..., None]).to(FP8), scales


def widened(values: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    """What rounded has rounded.  # [..., D], [...] -> [..., D]"""
    return (values.float() * scales.float()[..., None]).to(dtype)


def as_kept(x: Tensor) -> Tensor:
    """Heads as they are after having been kept in FP8.  # [..., D]"""
    return widened(*rounded(x), x.dtype)
