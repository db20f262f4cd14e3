"""How long a round takes beside others: groups of rows (micro-batches) on their way over several devices.

A round of one group drafts for T_d seconds and passes through stages of the target; alone it takes the cycle C, all of these and a hop
to each next one, and back. With m groups in flight a round ends every max(C / m, the busiest device's seconds): so m = C / busiest keeps that one
busy, more groups only read the weights more often.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from specbatch.engine.round_costs import RoundCosts

HOP = 25e-6  # seconds for the hidden states of a group from one GPU to the next
_AS_GOOD = 0.98  # of the most tokens a second: of equals the fewest groups
_ACCEPTANCE = 0.8  # of each draft, before anything is known: as plan assumes


@dataclass(frozen=True, slots=True)
class RoundTimes:
    """Seconds that a round keeps devices busy, in the order in which it comes to them.

    drafter: of the drafter's stages; empty or 0 where nothing is drafted, or nothing apart from the target
    target: of the target's stages
    """

    drafter: tuple[float, ...]
    target: tuple[float, ...]

    @property
    def cycle(self) -> float:
        """Of a group, when nothing is in its way."""
        parts = len(self.target) + sum(each > 0 for each in self.drafter)
        return sum(self.drafter) + sum(self.target) + (parts * HOP if parts > 1 else 0.0)

    @property
    def busiest(self) -> float:
        """Of the stage that takes the longest."""
        return max(*self.drafter, *self.target, 0.0)

    def interval(self, groups: int) -> float:
        """Between the ends of two rounds, with so many groups in flight."""
        return max(self.cycle / groups, self.busiest)


def costs_of(times: Mapping[tuple[int, int], RoundTimes], groups: int, sizes: list[int]) -> RoundCosts:
    """What rounds cost with so many groups in flight.

    Args:
        times: by rows of a group and k.
        groups: in flight.
        sizes: see RoundCosts.
    """
    return RoundCosts({at: each.interval(groups) for at, each in times.items()}, sizes=sizes)


def tokens_per_second(costs: RoundCosts, rows: int, k: int, acceptance: float = _ACCEPTANCE) -> float:
    """Of groups of so many rows, one after the other."""
    return rows * sum(acceptance**j for j in range(k + 1)) / costs.measured(rows, k)


def best_groups(
    times: Mapping[tuple[int, int], RoundTimes], slots: int, most: int, ks: Iterable[int], sizes: list[int]
) -> int:
    """The number of groups that gives the most tokens a second where all slots are taken.

    Args:
        times: by rows of a group and k.
        slots: rows in all.
        most: groups.
        ks: that rounds may draft.
        sizes: see RoundCosts.
    """
    ks = list(ks)
    speeds = {}
    for groups in range(1, min(most, slots) + 1):
        costs = costs_of(times, groups, sizes)
        speeds[groups] = max(tokens_per_second(costs, -(-slots // groups), k) for k in ks)
    return next(groups for groups, speed in speeds.items() if speed >= _AS_GOOD * max(speeds.values()))
