"""Counter-based random numbers: a row's draws depend on its key and the token's position, on nothing else.

SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014) in plain int64 tensor
arithmetic, so that the CPU and every GPU draw the same bits, and a captured graph needs no generator state.
"""

from __future__ import annotations

from enum import IntEnum

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # int64 arithmetic wraps, so constants are given in their signed form
_MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
_MIX_2 = 0x94D049BB133111EB - 2**64

STREAM_VERSION = 1  # counts up with any change of what is drawn: stored runs are replayed from (seed, row id)
CACHED = 4096  # a CPU takes vocabularies from this size on one by one, smaller ones together


class Purpose(IntEnum):
    """What a draw is for; draws of different purposes at one position are independent."""

    TOKEN = 1  # the target's own next token; under the coupled rule the drafter's as well
    DRAFT = 2  # the drafter's token under the rejection rule
    ACCEPT = 3  # the uniform that a draft token's probability ratio is held against


def _shift_right(z: Tensor, bits: int) -> Tensor:
    """Logical shift: torch's >> on int64 copies the sign bit."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift_right(z, 30)) * _MIX_1
    z = (z ^ _shift_right(z, 27)) * _MIX_2
    return z ^ _shift_right(z, 31)


def position_keys(row_keys: Tensor, positions: Tensor, purpose: Purpose) -> Tensor:
    """One stream key per row and position.

    Args:
        row_keys: Request.random_key of each row  # int64 [batch]
        positions: index of the token within its row's completion  # int64 [batch, n]
        purpose: what is drawn.

    Returns:
        int64 [batch, n]
    """
    return _mix(_mix(row_keys ^ int(purpose))[:, None] + _GOLDEN * (positions + 1))


def _unit_interval(bits: Tensor) -> Tensor:
    """The upper 32 of 64 random bits as float32 in (0, 1], with full relative precision near 0."""
    return (_shift_right(bits, 32).to(torch.float32) + 0.5) * 2.0**-32


def uniforms(keys: Tensor) -> Tensor:
    """One uniform draw from (0, 1] per key.  # float32, the keys' shape"""
    return _unit_interval(_mix(keys + _GOLDEN))


def exponentials(keys: Tensor, tokens: Tensor) -> Tensor:
    """Draws from Exp(1), one per key and token id: the noise of Gumbel-max sampling over the vocabulary, in the form of an exponential race.

    argmax(probs / exponentials) is a draw from probs: Gumbel-max without the logarithms of probs. A token's
    noise does not depend on which other tokens are asked for.

    Args:
        keys: int64 [...]
        tokens: token ids  # int64 [..., m], or [m] for all keys

    Returns:
        float32 [..., m], > 0
    """
    if keys.device.type == "cpu" and keys.numel() > 1 and tokens.shape[-1] >= CACHED:
        # Key by key, a dozen passes over one vocabulary stay in the cache: ten times faster than over all at once.
        rows = tokens.expand(*keys.shape, -1).flatten(0, -2)
        drawn = [_exponentials(key, row) for key, row in zip(keys.flatten(), rows, strict=True)]
        return torch.stack(drawn).view(*keys.shape, -1)
    return _exponentials(keys, tokens)


def _exponentials(keys: Tensor, tokens: Tensor) -> Tensor:
    unit = _unit_interval(_mix(keys[..., None] + (tokens + 1) * _GOLDEN))
    # Small draws win. They come from small uniforms, where float32 is finest: -log(1 - u), not -log(u).
    return -torch.log1p(-unit)
