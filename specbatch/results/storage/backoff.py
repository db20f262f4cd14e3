"""How long to wait before a call of a store is tried again."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before the next try: anything up to a limit that doubles with every failure ("full jitter")."""

    first: float = 0.5
    longest: float = 60.0
    random: Callable[[float, float], float] = random.uniform

    def seconds(self, failures: int) -> float:
        """After so many failures in a row, from 1."""
        return self.random(0.0, min(self.longest, self.first * 2.0 ** min(failures - 1, 30)))
