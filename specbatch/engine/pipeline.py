"""How long a round takes beside others: groups of rows (micro-batches) on their way over several devices.

A round of one group drafts for T_d seconds and passes through stages of the target; alone it takes the cycle C, all of these and a hop
to each next one, and back. With m groups in flight a round ends every max(C / m, the busiest device's seconds): so m = C / busiest keeps that one
busy, more groups only read the weights more often.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from specbatch.engine.speculation.round_costs import RoundCosts

HOP = 25e-6  # seconds for the hidden states of a group from one GPU to the next
CROWDED = 1.3  # H200: parts at work that share a GPU, against one after the other; 128 rows, the drafter beside half of the target: two groups gave .81 of one
SUSTAINED = 1.1  # H200, 64 to 256 rows: rounds of warm-up, which follow pauses, against those of a run
_AS_GOOD = 0.98  # of the most tokens a second: of equals the fewest groups
_WORTH_GROUPS = 1.05  # times one group's tokens a second, before there is more than one: predictions are a tenth off, and tails want one
_ACCEPTANCE = 0.8  # of each draft, before anything is known: as plan assumes


@dataclass(frozen=True, slots=True)
class RoundTimes:
    """Seconds that a round keeps devices busy, in the order in which it comes to them.

    drafter: of the drafter's stages; empty or 0 where nothing is drafted, or nothing apart from the target
    target: of the target's stages
    k: tokens drafted
    gpus: of each of these parts, the drafters' first; empty: each part has one of its own
    drafters: each in so many stages; they draft for the groups in turn
    """

    drafter: tuple[float, ...]
    target: tuple[float, ...]
    k: int = 1
    gpus: tuple[Hashable, ...] = ()
    drafters: int = 1

    @property
    def cycle(self) -> float:
        """Of a group, when nothing is in its way."""
        parts = len(self.target) + sum(each > 0 for each in self.drafter)
        return sum(self.drafter) + sum(self.target) + (parts * HOP if parts > 1 else 0.0)

    @property
    def drafting(self) -> float:
        """That a round holds a GPU of its drafter: until its last token has been there, since a lane does what is queued in its order.

        Each token goes through all stages before the next one begins: of k tokens in D stages, the first stage waits for k D - (D - 1) of the k D visits.
        """
        visits = max(1, self.k) * max(1, len(self.drafter))
        return sum(self.drafter) * (1 - (max(1, len(self.drafter)) - 1) / visits)

    @property
    def drafting_share(self) -> float:
        """The drafter's, of a round's work; 0 where nothing is drafted."""
        return sum(self.drafter) / (sum(self.drafter) + sum(self.target)) if self.k else 0.0

    def share(self, groups: int) -> float:
        """Of the rounds of so many groups, those that the drafter with the most of them drafts for."""
        return -(-groups // self.drafters) / groups

    def busiest(self, groups: int) -> float:
        """Seconds for each round that the stage, or the GPU of several parts, is held the longest. What never waits is slower than it was alone."""
        alone = max(self.share(groups) * self.drafting, *self.target)
        several = bool(self.drafter) or len(self.target) > 1
        return max((SUSTAINED if several else 1.0) * alone, CROWDED * self._crowded(groups))

    def _crowded(self, groups: int) -> float:
        """Of the GPU that several parts keep busy the longest, for each round of several groups."""
        shares = [len(range(number, groups, self.drafters)) / groups for number in range(self.drafters)]
        parts = [*(share * seconds for share in shares for seconds in self.drafter), *self.target]
        of_gpus: dict[Hashable, list[float]] = {}
        for gpu, seconds in zip(self.gpus if groups > 1 else (), parts, strict=False):
            of_gpus.setdefault(gpu, []).extend([seconds] if seconds else [])
        return max((sum(each) for each in of_gpus.values() if len(each) > 1), default=0.0)

    def interval(self, groups: int) -> float:
        """Between the ends of two rounds, with so many groups in flight."""
        return max(self.cycle / groups, self.busiest(groups))


class PipelineCosts(RoundCosts):
    """What rounds cost with several groups in flight: the time between the ends of two, by rows of a group.

    The number of groups may change. `drift` is that of all numbers; what one costs beyond it is learned, and kept, for each.

    Args:
        times: by rows of a group and k.
        sizes: see RoundCosts.
        groups: in flight now.
        most: groups that there may be.
        adaptive: whether rounds may draft any k that was timed, or always the largest.
        catch_up_seconds_per_token: see RoundCosts.
    """

    def __init__(
        self,
        times: Mapping[tuple[int, int], RoundTimes],
        sizes: Sequence[int],
        groups: int,
        most: int,
        *,
        adaptive: bool = True,
        catch_up_seconds_per_token: float = 0.0,
    ) -> None:
        super().__init__({at: each.interval(groups) for at, each in times.items()}, catch_up_seconds_per_token, sizes)
        self.groups = groups
        self._of = {number: _costs(times, sizes, number) for number in {*range(1, most + 1), groups}}
        self._ks: dict[int, list[int]] = {}
        for rows, k in sorted(times):
            self._ks.setdefault(rows, []).append(k)
        self._adaptive = adaptive
        self._cycles = RoundCosts({at: each.cycle for at, each in times.items()}, sizes=sizes)
        self._drafts = RoundCosts({at: each.drafting for at, each in times.items()}, sizes=sizes)
        self._share = next(iter(times.values())).share

    @property
    def choices(self) -> Sequence[int]:
        """Numbers of groups that there may be."""
        return sorted(self._of)

    def ks(self, rows: int) -> Sequence[int]:
        """That rounds of so many rows may draft."""
        ks = self._ks[self.sizes[bisect_left(self.sizes, rows)]]
        return ks if self._adaptive else ks[-1:]

    def regroup(self, groups: int) -> None:
        """Rounds are from now on of so many groups."""
        self.groups = groups

    def measured(self, rows: int, k: int) -> float:
        """Seconds of a round at warm-up."""
        return self._of[self.groups].measured(rows, k)

    def seconds(self, rows: int, k: int, catch_up: float = 0.0) -> float:
        """Predicted seconds of a round, in which the drafter also catches up for so long: beside the target, where it has the time."""
        return self.seconds_of(self.groups, rows, k, catch_up)

    def seconds_of(self, groups: int, rows: int, k: int, catch_up: float = 0.0) -> float:
        """As seconds, with another number of groups."""
        costs = self._of[groups]
        seconds = costs.seconds(rows, k)
        if not catch_up:
            return seconds
        slowdown = seconds / costs.measured(rows, k)
        cycle = slowdown * self._cycles.measured(rows, k) + catch_up
        drafting = slowdown * self._drafts.measured(rows, k) + catch_up
        return max(seconds, cycle / groups, self._share(groups) * drafting)

    def observe(self, rows: int, k: int, seconds: float) -> None:
        """Corrects the prediction for the groups in flight, and the drift for all."""
        costs = self._of[self.groups]
        costs.observe(rows, k, seconds)
        for each in self._of.values():
            each.drift = costs.drift


def _costs(times: Mapping[tuple[int, int], RoundTimes], sizes: Sequence[int], groups: int) -> RoundCosts:
    return RoundCosts({at: each.interval(groups) for at, each in times.items()}, sizes=sizes)


def speeds_by_groups(costs: PipelineCosts, rows: int, expected_tokens: Callable[[int], float]) -> dict[int, float]:
    """Tokens a second of each number of groups at the k that is best for it; rising.

    Args:
        costs: of rounds.
        rows: in all groups.
        expected_tokens: that a row gains in a round, by k.
    """
    speeds = {}
    for groups in costs.choices:
        if groups <= rows:
            each = -(-rows // groups)
            speeds[groups] = max(each * expected_tokens(k) / costs.seconds_of(groups, each, k) for k in costs.ks(each))
    return speeds


def best_groups(speeds: Mapping[int, float]) -> int:
    """The fewest that give nearly the most tokens a second; one unless others are clearly faster."""
    most = max(speeds.values())
    if most < _WORTH_GROUPS * speeds.get(1, 0.0):
        return 1
    return next(groups for groups, speed in speeds.items() if speed >= _AS_GOOD * most)


def assumed_tokens(k: int) -> float:
    """That a row gains in a round of k drafts, before anything is known."""
    return sum(_ACCEPTANCE**j for j in range(k + 1))
