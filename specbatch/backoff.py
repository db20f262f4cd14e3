"""Exponential backoff with jitter: how long to wait before a failed call is tried again.

Each caller decides which of its failures are transient, and when to give up.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

_MAX_DOUBLINGS = 30
_RANDOM = random.Random()  # noqa: S311 - no secret; an instance of our own: whoever seeds the global one keeps its sequence


@dataclass(frozen=True, slots=True)
class Backoff:
    """Full jitter: a wait is anything between 0 and a limit that doubles with every failure, so that many shards do not retry at once.

    Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/

    Args:
        first: the limit after the first failure, in seconds.
        longest: the limit never grows beyond this.
        random: a number between its two arguments.
    """

    first: float = 0.5
    longest: float = 60.0
    random: Callable[[float, float], float] = _RANDOM.uniform

    def seconds(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row, from 1."""
        return self.random(0.0, min(self.longest, self.first * 2.0 ** min(failures - 1, _MAX_DOUBLINGS)))
