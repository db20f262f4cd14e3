"""What a round costs by rows and k: measured at warm-up, corrected by every round since."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence

_DRIFT_PACE = 0.3
_RELATIVE_PACE = 0.5
_DRIFT_DOUBT = 0.05
_LEAST_DOUBT = 0.002
_DOUBT_GROWTH = 0.002  # a round: what was known of a k fades


class RoundCosts:
    """Seconds of a round by (rows, k): a table measured at warm-up, corrected by every round since.

    Two corrections, as factors: `drift` is what slows all rounds alike (longer context, a busy machine), `relative[k]` what one
    k costs beyond its entry in the table. A surprise goes to the one that is less certain: the first rounds of a k teach its
    relative cost (and its neighbours', by half as much a step); once that is known, what changes is the drift. So values of
    k that are not tried lately stay comparable with those that are.

    context_adds: until a round has drafted, what plain rounds take longer any other does as well: seconds, not a factor. So it is where
        the context alone makes them longer, and nothing else disturbs; a factor would make drafts look cheap beside them
    draft_seconds_per_token: that a draft step takes longer for each token of context, beyond the little there was at warm-up
    catch_up_growth: by how much a token more before it makes catching up with one dearer, as a share of catch_up_seconds_per_token
    catch_up_middle: tokens before the middle one where that was measured

    Args:
        table: (rows, k) -> seconds, for at least one number of rows and k = 0; linear in between.
        catch_up_seconds_per_token: for the drafter to take in one token that it has not seen.
        sizes: what numbers of rows are filled up to, rising; empty: to nothing.
    """

    def __init__(
        self, table: Mapping[tuple[int, int], float], catch_up_seconds_per_token: float = 0.0, sizes: Sequence[int] = ()
    ) -> None:
        self.table = dict(table)
        self.sizes = sizes
        self.catch_up_seconds_per_token = catch_up_seconds_per_token
        self.catch_up_growth = 0.0
        self.catch_up_middle = 0.0
        self.draft_seconds_per_token = 0.0
        self.timed_context = 0
        self.context_adds = False
        self.drift = 1.0
        largest = max(k for _, k in self.table)
        self.relative = dict.fromkeys(range(largest + 1), 1.0)
        self._drafted = False
        self._measured: dict[tuple[int, int], float] = {}  # of the table and between: asked for many times a round
        self._doubt = dict.fromkeys(range(largest + 1), 1.0)  # of the relative costs, against _DRIFT_DOUBT of the drift

    def seconds(self, rows: int, k: int, catch_up: float = 0.0) -> float:
        """Predicted seconds of a round, and of what the drafter catches up with for it."""
        return self.measured(rows, k) * self.drift * self.relative.get(k, 1.0) + catch_up

    def regroup(self, groups: int) -> None:
        """Rounds are from now on of so many groups of rows in flight: see PipelineCosts."""

    def observe(self, rows: int, k: int, seconds: float) -> None:
        """Corrects the prediction; a single outlier counts no more than a factor of two."""
        before = (
            []
            if k or self._drafted or not self.context_adds
            else [self.seconds(rows, each) for each in range(len(self.relative))]
        )
        self._drafted |= k > 0
        surprise = min(max(seconds / self.seconds(rows, k), 0.5), 2.0)
        share = self._doubt[k] / (self._doubt[k] + _DRIFT_DOUBT)
        self.drift *= surprise ** (_DRIFT_PACE * (1 - share))
        for other in self.relative:
            if (other == 0) == (k == 0):  # plain rounds and speculative ones tell nothing of each other
                pace = _RELATIVE_PACE * share * 0.5 ** abs(other - k) * self._doubt[other] / self._doubt[k]
                self.relative[other] *= surprise ** min(pace, _RELATIVE_PACE)
            self._doubt[other] = min(1.0, self._doubt[other] + _DOUBT_GROWTH)
        self._doubt[k] = max(_LEAST_DOUBT, 0.5 * self._doubt[k])
        for other in range(1, len(before)):
            longer = self.seconds(rows, 0) - before[0]
            self.relative[other] *= (before[other] + longer) / self.seconds(rows, other)

    def step_longer(self, rows: int, lag: int) -> float:
        """Seconds that a draft step takes longer than at warm-up, once rows are taken in that the drafter lacks so many tokens of."""
        return self.draft_seconds_per_token * max(0, lag - rows * self.timed_context)

    def catch_up_per_token(self, before: float) -> float:
        """Seconds a token, for one with so many before it."""
        return self.catch_up_seconds_per_token * (1 + self.catch_up_growth * max(0.0, before - self.catch_up_middle))

    def measured(self, rows: int, k: int) -> float:
        """Seconds of a round at warm-up."""
        if (rows, k) not in self._measured:
            points = sorted({n for n, _ in self.table})
            at = {n: _interpolate({kk: s for (m, kk), s in self.table.items() if m == n}, k) for n in points}
            filled = self.sizes[bisect_left(self.sizes, rows)] if self.sizes else rows
            self._measured[rows, k] = _interpolate(at, filled)
        return self._measured[rows, k]


def _interpolate(points: Mapping[int, float], x: int) -> float:
    """Piecewise linear through the points, constant before the first, by the last slope beyond the last."""
    xs = sorted(points)
    if len(xs) == 1 or x <= xs[0]:
        return points[xs[0]]
    upper = next((i for i, known in enumerate(xs) if known >= x), len(xs) - 1)
    left, right = xs[upper - 1], xs[upper]
    return points[left] + (points[right] - points[left]) * (x - left) / (right - left)
