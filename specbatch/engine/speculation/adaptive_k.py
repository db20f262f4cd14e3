"""How many tokens to draft: k maximises expected tokens per second, from measured costs and acceptance, and may be 0.

A round that drafts k tokens commits E(k) = 1 + sum_j P_j tokens a row, P_j the chance that the first j drafts are accepted, and
takes C(n, k) seconds for n rows. Before it can draft, the drafter takes in what it has not seen of them: that is the price p,
in seconds, of each token to come. A token costs C(n, 0) / n from a plain round and C(n, k) / (n E(k)) + p from one that drafts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from specbatch.engine.config import EngineConfig
from specbatch.engine.speculation.acceptance_rates import OPTIMISTIC_RATE, AcceptanceEstimate, geometric, spread
from specbatch.engine.speculation.controller import Choice, Controller, FixedK, RoundReport
from specbatch.engine.speculation.round_costs import RoundCosts

_EVIDENCE_STEP = 8  # row-rounds of drafting that allow k to double: no leap on the prior alone
_MARGIN = 1.03  # a gain below this is measuring noise: stay with less speculation
_DOUBT = 14.0  # standard errors of acceptance, times the share of the time to come that catching up takes: it must pay with so many less
_HOPE = 0.5  # standard errors: with so many more a gain is worth asking for
_FEW = (16, 8, 4)  # rows that are asked in place of all: as many as that costs little for
_FEW_SHARE = 0.6  # where that costs less than this of asking all
_AS_GOOD = 0.985  # of the largest gain
_SMALL_GAIN = 1.3  # a smaller gain than this is held against a plain round
_PLAIN_ROUNDS = 50  # every so many rounds; a larger gain a quarter as often, and the first time after an eighth
_PROBE_SHARE = 0.005  # of the time, at the most, goes into asking again whether speculation pays
_STREAM_FADE = 0.998  # a round, of what is remembered of rows that join
_ASKING_SHARE = 0.25  # of what speculation may gain for the rows that are there: what asking may cost
_ASKING = 0.01  # of the time so far and to come: what asking few rows is to cost
_ASKING_MOST = 0.015  # likewise, what it may cost where the fewest cost more than that
_WORTH = 0.1  # of what may be gained, by few rows: what asking them may cost at any rate
_MOST_LOST = 0.028  # of that time: what drafts may have lost beside plain rounds where it is not sure that they pay
_LOOKS = 3  # plain rounds that are seen before a price is paid
_DEAR = 6.0  # that is higher than so many of them
_ENOUGH = 48  # row-rounds of drafting, fading: what these show is settled


class AdaptiveK:
    """k from measured costs and acceptance.

    The price of drafting is p = catch_up_seconds_per_token * (lag + joined) / (remaining + emitted): a batch pays what the drafter lacks over
    what its rows may still get, a stream that refills it what rows bring along over what they yield. `joined` and `emitted` are
    of late rounds, as if as much were to come; both 0 before the first refill. What is seen is paid: it does not count.

    Rows with drafts end further apart than without. Where none takes the slots of those that have ended, the batch waits for the unluckiest,
    which is in the price too: see acceptance_rates.spread.

    A gain is held against the cost of a plain round now and then. At k = 0 nothing is learned about acceptance, so when a small
    share of the time has paid for it, a round speculates again; never where even OPTIMISTIC_RATE would not pay. Where that
    saves much of the catch-up, only a few rows are asked, at the very start too. Where the drafter lacks much, the first rounds are plain:
    they tell what the rows' context costs, which the table has not.

    Until a gain is sure, what drafts have lost beside plain rounds and what the next may lose stays within _MOST_LOST of the time so far and to
    come: a conservative bandit (Wu et al., arXiv 1602.04282) whose baseline is the target alone.

    Args:
        costs: measured at warm-up.
        max_k: the largest k.
        steady: a device does the same in the same time: its table needs plain rounds to confirm it an eighth as often, and not at
            the start. Its engine can also run a round of few rows while the others stand still.
    """

    is_adaptive = True

    def __init__(self, costs: RoundCosts, max_k: int, *, steady: bool = False) -> None:
        self.costs = costs
        costs.context_adds = steady
        self.max_k = max_k
        self._hopes = [geometric(OPTIMISTIC_RATE, k) for k in range(max_k + 1)]
        self.steady = steady
        self.acceptance = AcceptanceEstimate()
        self.rounds_since_plain = 0
        self.plain_seen = steady
        self.plain_rounds = 0
        self.middle = 0.0  # tokens before the middle one of what the drafter lacked last
        self.probe_seconds = 0.0  # set aside for probing, and not spent yet
        self.elapsed = 0.0  # seconds of all rounds
        self.won = 0.0  # seconds by drafts, over plain rounds; below 0 where they lost
        self.joined = 0.0  # tokens of rows that joined, the older ones fading
        self.emitted = 0.0  # tokens since the first of them joined, fading alike
        self.remaining = 0  # tokens, of the rows of the round before
        self.apart = 0.0  # tokens a row of this batch by rounds with drafts
        self.plain_seconds: float | None = None

    def choose(self, rows: int, lag: int, remaining: int) -> Choice:
        """The best k for all rows; 0 unless speculation gains more than the noise; or a probe."""
        base = self.plain_seconds = self.costs.seconds(rows, 0)
        evidence = sum(self.acceptance.proposed_at[:1])
        if lag > rows:
            self.middle = lag / rows / 2
        price = self._per_token * (lag + self.joined) / (remaining + self.emitted)
        self.apart = self.apart if remaining <= self.remaining else 0.0
        self.remaining = remaining
        waiting = 0.0 if self.joined else spread(rows, remaining / rows, self.apart)
        paid = rows, price, self.costs.step_longer(rows, lag)
        hopeful, hope = self._best(*paid, self._hopes)
        best, gain = self._best(*paid, self.acceptance.expected(self.max_k), waiting)
        to_come = base * remaining / rows
        total = self.elapsed + to_come
        probe = self._probe(rows, lag, min(hopeful, 2), _ASKING * total)
        if self.steady and self.plain_rounds < _LOOKS and self._price(probe, rows, lag) > _DEAR * base:
            return Choice(0, rows)
        error = self.acceptance.standard_error()
        doubt = _DOUBT * error * lag * self._per_token / to_come
        _, low = self._best(*paid, self.acceptance.expected(self.max_k, -doubt), waiting)
        spare = self.won + _MOST_LOST * total
        least = 1.0 if self.rounds_since_plain else _MARGIN
        if low > _MARGIN or (gain > least and self._price(Choice(best, rows), rows, lag) <= spare):
            return Choice(0 if self._plain_is_due(gain) else min(best, self._largest(rows, evidence)), rows)
        allowed = self.probe_seconds
        if evidence < _ENOUGH:
            might = hope
            if evidence:
                _, might = self._best(*paid, self.acceptance.expected(self.max_k, _HOPE * error))
            share = _ASKING_SHARE * (1 - 1 / might) * to_come
            most = max(_ASKING_MOST * total, _WORTH * (1 - 1 / might) * to_come) if probe.rows < rows else spare
            allowed = max(allowed, min(spare, share, most))
        return probe if hope > _MARGIN and self._price(probe, rows, lag) <= allowed else Choice(0, rows)

    @property
    def _per_token(self) -> float:
        return self.costs.catch_up_per_token(self.middle)

    def _best(
        self, rows: int, price: float, step: float, expected: Sequence[float], waiting: float = 0.0
    ) -> tuple[int, float]:
        """The k of the largest gain over plain rounds, and that gain.

        Args:
            rows: in the round.
            price: of a token.
            step: what a draft takes longer than the table has it.
            expected: E(k) by k.
            waiting: see acceptance_rates.spread.
        """
        plain, squares, gains = self.costs.seconds(rows, 0), 1.0, {}
        for k in range(1, self.max_k + 1):
            tokens = expected[k]
            squares += (2 * k + 1) * (tokens - expected[k - 1])  # of a round's tokens, expected
            waited = waiting * math.sqrt(max(0.0, squares / tokens - tokens)) * self.costs.seconds(1, k)  # by few rows
            gains[k] = plain * tokens / (self.costs.seconds(rows, k, price * rows * tokens) + k * step + waited)
        top = max(gains.values())
        # Of equals the smallest: rows that gain more evenly end more nearly together, and less is drafted for nothing.
        best = next(k for k, gain in gains.items() if gain >= top * _AS_GOOD)
        return best, gains[best]

    def _largest(self, rows: int, evidence: float) -> int:
        """k that is not too large for what is known. Where rounds teach little each, being slow costs more than a bad guess."""
        if not self.steady:
            return 1 << int(evidence / _EVIDENCE_STEP)
        return 1 << (int(2 * evidence / _EVIDENCE_STEP) + (rows < _FEW[0]))

    def _plain_is_due(self, gain: float) -> bool:
        """Whether the gain is to be held against a plain round again."""
        patience = _PLAIN_ROUNDS if gain < _SMALL_GAIN else 4 * _PLAIN_ROUNDS
        if self.steady:
            patience = 8 * _PLAIN_ROUNDS
        if not self.plain_seen:  # the table alone has spoken so far
            patience = _PLAIN_ROUNDS // 8
        return self.rounds_since_plain >= patience

    def _probe(self, rows: int, lag: int, k: int, most: float) -> Choice:
        """A round of all rows, or of few where that is much cheaper: of as many as cost no more than `most` seconds."""
        every = Choice(k, rows)
        if not self.steady:
            return every
        few = [Choice(1, each) for each in _FEW if each <= rows // 2] or [every]
        asked = next((each for each in few if self._price(each, rows, lag) <= most), few[-1])
        return asked if self._price(asked, rows, lag) < _FEW_SHARE * self._price(every, rows, lag) else every

    def _price(self, probe: Choice, rows: int, lag: int) -> float:
        """Seconds that a probe costs more than its rows' share of a plain round."""
        share = probe.rows / rows
        catch_up = lag * share * self._per_token
        return catch_up + self.costs.seconds(probe.rows, probe.k) - share * self.costs.seconds(rows, 0)

    def observe(self, report: RoundReport) -> None:
        """Learns costs, acceptance and how rows come, and keeps account of what probing costs."""
        rows, tokens = report.rows + report.standing, report.rows + sum(report.accepted_at) + report.forced
        worth = tokens / rows * self.costs.seconds(rows, 0)
        self.costs.observe(report.rows, report.k, report.seconds)
        self.rounds_since_plain = self.rounds_since_plain + 1 if report.k else 0
        self.plain_seen |= report.k == 0
        self.plain_rounds += report.k == 0
        self.joined = _STREAM_FADE * self.joined + report.joined
        self.emitted = _STREAM_FADE * self.emitted + tokens if self.joined else 0.0
        self.probe_seconds += report.seconds * _PROBE_SHARE
        self.elapsed += report.seconds
        if report.k:
            self.apart += tokens / rows
            self.acceptance.observe(report.proposed_at, report.accepted_at)
            lost = report.catch_up_seconds + report.seconds - worth
            self.won -= lost
            self.probe_seconds = max(0.0, self.probe_seconds - max(0.0, lost))

    def regrouped(self, groups: int) -> None:
        """Rounds are from now on of so many groups."""
        self.costs.regroup(groups)


def costs_needed(config: EngineConfig, *, drafts: bool) -> bool:
    """Whether make_controller needs the costs of rounds."""
    return drafts and config.max_k > 0 and (config.speculation.is_adaptive or config.price_plain_rounds)


def make_controller(config: EngineConfig, costs: RoundCosts | None, *, drafts: bool, steady: bool) -> Controller:
    """The controller that a config asks for.

    Args:
        config: for the speculation.
        costs: measured at warm-up, where costs_needed.
        drafts: whether there is a drafter.
        steady: see AdaptiveK.
    """
    if not drafts or config.max_k == 0:
        return FixedK(0)
    if config.speculation.is_adaptive:
        assert costs is not None, "measured at warm-up"
        return AdaptiveK(costs, config.max_k, steady=steady)
    return FixedK(config.max_k, costs if config.price_plain_rounds else None)
