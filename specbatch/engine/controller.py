"""How many tokens to draft: k maximises expected tokens per second, from measured costs and acceptance, and may be 0.

A round that drafts k tokens commits E(k) = 1 + sum_j P_j tokens a row, P_j the chance that the first j drafts stand, and
takes C(n, k) seconds for n rows; k = argmax E(k) / C(n, k).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

_EVIDENCE_STEP = 8  # row-rounds of drafting that allow k to double: no leap on the prior alone
_WINDOW = 512.0  # row-rounds that acceptance remembers
_PRIOR_RATE = 0.7  # conditional acceptance before anything is known
_PRIOR_WEIGHT = 2.0  # row-rounds that the prior counts for
_OPTIMISTIC_RATE = 0.9  # what a probe hopes for; below 1, since nothing real accepts all
_MARGIN = 1.03  # a gain below this is measuring noise: stay with less speculation
_AS_GOOD = 0.985  # of the largest gain
_SMALL_GAIN = 1.3  # a smaller gain than this is held against a plain round
_PLAIN_ROUNDS = 50  # every so many rounds; a larger gain a quarter as often, and the first time after an eighth
_DRIFT_PACE = 0.3
_RELATIVE_PACE = 0.5
_DRIFT_DOUBT = 0.05
_LEAST_DOUBT = 0.002
_DOUBT_GROWTH = 0.002  # a round: what was known of a k fades
_PROBE_SHARE = 0.005  # of the time, at the most, goes into asking again whether speculation pays
_FADE = 0.98  # a round, of what a fixed k remembers
_FIRST_PROBE = 4.0  # plain rounds that the very first one may cost


@dataclass(frozen=True, slots=True)
class RoundReport:
    """What one round showed.

    rows: in the batch; k: as chosen; seconds: the round; catch_up_seconds: before it, for what the drafter had not seen
    verified: drafts that the target looked at a row: k, or fewer from a ragged drafter
    reached, stood: [j] rows whose drafts before position j all stood, and of these the rows whose draft j stood too
    """

    rows: int
    k: int
    seconds: float
    reached: Sequence[int]
    stood: Sequence[int]
    catch_up_seconds: float = 0.0
    verified: int = 0


class Controller(Protocol):
    """Chooses k before each round and learns from it after."""

    @property
    def plain_seconds(self) -> float | None:
        """Of a plain round at the batch last chosen for, as known then; None where it is not."""
        ...

    def choose(self, rows: int, lag: int) -> int:
        """k for a round of so many rows, of which the drafter has not seen `lag` tokens."""
        ...

    def observe(self, report: RoundReport) -> None:
        """Takes in what the round showed."""
        ...


class FixedK:
    """Always the same k.

    Args:
        k: num_speculative_tokens.
        costs: measured at warm-up, at k = 0 and at k; None: nobody asks what plain rounds would take.
    """

    def __init__(self, k: int, costs: RoundCosts | None = None) -> None:
        self.k = k
        self.plain_seconds: float | None = None
        self._costs = costs
        self._spent = 0.0  # by late rounds, the older ones fading
        self._expected = 0.0  # for them, by the table

    def choose(self, rows: int, lag: int) -> int:
        """k, whatever the batch."""
        del lag
        if self._costs is not None:
            slowdown = self._spent / self._expected if self._expected else 1.0
            self.plain_seconds = self._costs.measured(rows, 0) * slowdown
        return self.k

    def observe(self, report: RoundReport) -> None:
        """How much slower rounds are than at warm-up: longer context, a busy machine."""
        if self._costs is not None:
            self._spent = _FADE * self._spent + report.seconds
            self._expected = _FADE * self._expected + self._costs.measured(report.rows, report.verified)


class RoundCosts:
    """Seconds of a round by (rows, k): a table measured at warm-up, corrected by every round since.

    Two corrections, as factors: `drift` is what slows all rounds alike (longer context, a busy machine), `relative[k]` what one
    k costs beyond its entry in the table. A surprise goes to the one that is less certain: the first rounds of a k teach its
    relative cost (and its neighbours', by half as much a step); once that is known, what changes is the drift. So values of
    k that are not tried lately stay comparable with those that are.

    Args:
        table: (rows, k) -> seconds, for at least one number of rows and k = 0; linear in between.
        ingest_seconds: for the drafter to take in one token that it has not seen.
        sizes: what numbers of rows are filled up to, rising; empty: to nothing.
    """

    def __init__(
        self, table: Mapping[tuple[int, int], float], ingest_seconds: float = 0.0, sizes: Sequence[int] = ()
    ) -> None:
        self.table = dict(table)
        self.sizes = sizes
        self.ingest_seconds = ingest_seconds
        self.drift = 1.0
        largest = max(k for _, k in self.table)
        self.relative = dict.fromkeys(range(largest + 1), 1.0)
        self._measured: dict[tuple[int, int], float] = {}  # of the table and between: asked for many times a round
        self._doubt = dict.fromkeys(range(largest + 1), 1.0)  # of the relative costs, against _DRIFT_DOUBT of the drift

    def seconds(self, rows: int, k: int) -> float:
        """Predicted seconds of a round."""
        return self.measured(rows, k) * self.drift * self.relative.get(k, 1.0)

    def observe(self, rows: int, k: int, seconds: float) -> None:
        """Corrects the prediction; a single outlier counts no more than a factor of two."""
        surprise = min(max(seconds / self.seconds(rows, k), 0.5), 2.0)
        share = self._doubt[k] / (self._doubt[k] + _DRIFT_DOUBT)
        self.drift *= surprise ** (_DRIFT_PACE * (1 - share))
        for other in self.relative:
            if (other == 0) == (k == 0):  # plain rounds and speculative ones tell nothing of each other
                pace = _RELATIVE_PACE * share * 0.5 ** abs(other - k) * self._doubt[other] / self._doubt[k]
                self.relative[other] *= surprise ** min(pace, _RELATIVE_PACE)
            self._doubt[other] = min(1.0, self._doubt[other] + _DOUBT_GROWTH)
        self._doubt[k] = max(_LEAST_DOUBT, 0.5 * self._doubt[k])

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


@dataclass(slots=True)
class AcceptanceEstimate:
    """Conditional acceptance by draft position, from decayed counts."""

    reached: list[float] = field(default_factory=list)
    stood: list[float] = field(default_factory=list)

    def observe(self, reached: Sequence[int], stood: Sequence[int]) -> None:
        """Adds one round's counts, fading the older ones."""
        while len(self.reached) < len(reached):
            self.reached.append(0.0)
            self.stood.append(0.0)
        for j, (r, s) in enumerate(zip(reached, stood, strict=True)):
            fade = max(0.0, 1.0 - r / _WINDOW)
            self.reached[j] = self.reached[j] * fade + r
            self.stood[j] = self.stood[j] * fade + s

    def rate(self, position: int) -> float:
        """Chance that the draft at a position stands when all before it stood; leans on the position before it."""
        prior = self.rate(position - 1) if position > 0 else _PRIOR_RATE
        if position >= len(self.reached):
            return prior
        return (self.stood[position] + _PRIOR_WEIGHT * prior) / (self.reached[position] + _PRIOR_WEIGHT)

    def expected_tokens(self, k: int) -> float:
        """E(k) = 1 + P_1 + ... + P_k."""
        expected, chance = 1.0, 1.0
        for j in range(k):
            chance *= self.rate(j)
            expected += chance
        return expected


class AdaptiveK:
    """k from measured costs and acceptance.

    A gain is held against the cost of a plain round now and then. At k = 0 nothing is learned about acceptance, so when a small
    share of the time has paid for it, a round speculates again; never where even _OPTIMISTIC_RATE would not pay.

    Args:
        costs: measured at warm-up.
        max_k: the largest k.
        steady: a device does the same in the same time: its table needs plain rounds to confirm it an eighth as often, and not at
            the start.
    """

    def __init__(self, costs: RoundCosts, max_k: int, *, steady: bool = False) -> None:
        self.costs = costs
        self.max_k = max_k
        self.steady = steady
        self.acceptance = AcceptanceEstimate()
        self.rounds_since_plain = 0
        self.plain_seen = steady
        self.probe_seconds = 0.0  # set aside for probing, and not spent yet
        self.plain_seconds: float | None = None

    def choose(self, rows: int, lag: int) -> int:
        """The best k; 0 unless speculation gains more than the noise."""
        base = self.plain_seconds = self.costs.seconds(rows, 0)
        evidence = sum(self.acceptance.reached[:1])
        best, gain = self._best(rows, self.acceptance.expected_tokens, base)
        if gain > _MARGIN:
            patience = _PLAIN_ROUNDS if gain < _SMALL_GAIN else 4 * _PLAIN_ROUNDS
            if self.steady:
                patience = 8 * _PLAIN_ROUNDS
            if not self.plain_seen:  # the table alone has spoken so far
                patience = _PLAIN_ROUNDS // 8
            return 0 if self.rounds_since_plain >= patience else min(best, 2 ** int(evidence / _EVIDENCE_STEP))
        hopeful, gain = self._best(rows, lambda k: _geometric(_OPTIMISTIC_RATE, k), base)
        probe = min(hopeful, 2)  # enough to see whether drafts stand again
        price = lag * self.costs.ingest_seconds + self.costs.seconds(rows, probe) - base
        allowed = self.probe_seconds if evidence else _FIRST_PROBE * base  # nobody knows yet: worth a little
        return probe if gain > _MARGIN and price <= allowed else 0

    def _best(self, rows: int, expected: ExpectedTokens, base: float) -> tuple[int, float]:
        """The k of the largest gain over plain rounds, and that gain."""
        gains = {k: expected(k) / self.costs.seconds(rows, k) * base for k in range(1, self.max_k + 1)}
        top = max(gains.values())
        # Of equals the smallest: rows that gain more evenly end more nearly together, and less is drafted for nothing.
        best = next(k for k, gain in gains.items() if gain >= top * _AS_GOOD)
        return best, gains[best]

    def observe(self, report: RoundReport) -> None:
        """Learns costs and acceptance, and keeps account of what probing costs."""
        worth = self.costs.seconds(report.rows, 0)
        self.costs.observe(report.rows, report.k, report.seconds)
        self.rounds_since_plain = self.rounds_since_plain + 1 if report.k else 0
        self.plain_seen |= report.k == 0
        self.probe_seconds += report.seconds * _PROBE_SHARE
        if report.k:
            self.acceptance.observe(report.reached, report.stood)
            tokens = 1.0 + sum(report.stood) / report.rows
            lost = report.catch_up_seconds + report.seconds - tokens * worth
            self.probe_seconds = max(0.0, self.probe_seconds - max(0.0, lost))


class ExpectedTokens(Protocol):
    """E(k)."""

    def __call__(self, k: int) -> float:
        """Tokens a row and round."""
        ...


def _geometric(rate: float, k: int) -> float:
    """E(k) at a constant acceptance rate: (1 - rate^(k+1)) / (1 - rate)."""
    return sum(rate**j for j in range(k + 1))
