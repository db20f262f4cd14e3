"""How often drafts stand, by their position: estimated from late rounds; and what rows wait for each other because some are luckier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from statistics import NormalDist

_WINDOW = 512.0  # row-rounds that acceptance remembers
_PRIOR_RATE = 0.7  # conditional acceptance before anything is known
_PRIOR_WEIGHT = 2.0  # row-rounds that the prior counts for
_LEAN = 8.0  # row-rounds that the position before counts for: a few unlucky drafts must not end their position for good
OPTIMISTIC_RATE = 0.9  # what a probe hopes for; below 1, since nothing real accepts all


@dataclass(slots=True)
class AcceptanceEstimate:
    """Conditional acceptance by draft position, from decayed counts."""

    proposed_at: list[float] = field(default_factory=list)
    accepted_at: list[float] = field(default_factory=list)

    def observe(self, proposed_at: Sequence[int], accepted_at: Sequence[int]) -> None:
        """Adds one round's counts, fading the older ones."""
        while len(self.proposed_at) < len(proposed_at):
            self.proposed_at.append(0.0)
            self.accepted_at.append(0.0)
        for j, (r, s) in enumerate(zip(proposed_at, accepted_at, strict=True)):
            fade = max(0.0, 1.0 - r / _WINDOW)
            self.proposed_at[j] = self.proposed_at[j] * fade + r
            self.accepted_at[j] = self.accepted_at[j] * fade + s

    def rates(self, count: int) -> list[float]:
        """Chances that the drafts at the first positions are accepted when all before them were; each leans on the position before it."""
        found: list[float] = []
        for position in range(count):
            rate, weight = (found[-1], _LEAN) if found else (_PRIOR_RATE, _PRIOR_WEIGHT)
            if position < len(self.proposed_at):
                rate = (self.accepted_at[position] + weight * rate) / (self.proposed_at[position] + weight)
            found.append(rate)
        return found

    def rate(self, position: int) -> float:
        """See rates."""
        return self.rates(position + 1)[position]

    def standard_error(self) -> float:
        """Of the rate at which first drafts stand."""
        rate, count = self.rate(0), sum(self.proposed_at[:1]) + _PRIOR_WEIGHT
        return math.sqrt(rate * (1 - rate) / count)

    def expected(self, most: int, shift: float = 0.0) -> list[float]:
        """E(k) = 1 + P_1 + ... + P_k for every k from 0 to the largest, with all rates by so much higher."""
        expected, chance = [1.0], 1.0
        for rate in self.rates(most):
            chance *= min(max(rate + shift, 0.0), OPTIMISTIC_RATE if shift > 0 else 1.0)
            expected.append(expected[-1] + chance)
        return expected

    def expected_tokens(self, k: int) -> float:
        """E(k)."""
        return self.expected(k)[k]


def spread(rows: int, remaining: float, apart: float) -> float:
    """By how much more rounds with drafts a batch takes than its mean row, if a round's tokens have a variance as large as their mean.

    A batch waits for its unluckiest row, unless others take the slots of those that have ended. Rounds until a row has N tokens, m each on average with
    variance v, are N / m, give or take sqrt(N v / m^3); the largest of n normal numbers is about the (n - 3/8) / (n + 1/4) quantile (Blom).

    Args:
        rows: of the batch.
        remaining: tokens a row.
        apart: tokens a row that have drawn them apart already.
    """
    return _largest_of(rows) * (math.sqrt(apart + remaining) - math.sqrt(apart)) / max(1.0, remaining)


@cache
def _largest_of(rows: int) -> float:
    return NormalDist().inv_cdf((rows - 0.375) / (rows + 0.25))


def geometric(rate: float, k: int) -> float:
    """E(k) at a constant acceptance rate: (1 - rate^(k+1)) / (1 - rate)."""
    return sum(rate**j for j in range(k + 1))
