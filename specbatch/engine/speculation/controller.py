"""Who decides how many tokens a round drafts: what a controller is told, and a k that is always the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from specbatch.engine.speculation.round_costs import RoundCosts

_FADE = 0.98  # a round, of what a fixed k remembers


@dataclass(frozen=True, slots=True)
class RoundReport:
    """What one round showed.

    rows: in the batch; k: as chosen; seconds: the round; catch_up_seconds: before it, for what the drafter had not seen
    verified: drafts that the target looked at a row: k, or fewer from a ragged drafter
    proposed_at, accepted_at: [j] rows whose drafts before position j were accepted, and of these the rows whose draft at j was accepted too
    standing: rows that stood still meanwhile
    joined: tokens of rows that took slots of others since the round before: not of those that a batch begins with
    forced: accepted drafts that grammars had forced, which are in neither proposed_at nor accepted_at
    """

    rows: int
    k: int
    seconds: float
    proposed_at: Sequence[int]
    accepted_at: Sequence[int]
    catch_up_seconds: float = 0.0
    verified: int = 0
    standing: int = 0
    joined: int = 0
    forced: int = 0


class Choice(NamedTuple):
    """The next round: k, and of how many rows.

    Fewer than there are: the others stand still, and the drafter need not take them in. Only where the controller is steady.
    """

    k: int
    rows: int


class Controller(Protocol):
    """Chooses k before each round and learns from it after.

    is_adaptive: its k may be cut to where the sequences end, since what is drafted beyond counts for nothing
    """

    is_adaptive: bool

    @property
    def plain_seconds(self) -> float | None:
        """Of a plain round at the batch last chosen for, as known then; None where it is not."""
        ...

    def choose(self, rows: int, lag: int, remaining: int) -> Choice:
        """The next round.

        Args:
            rows: that could take part, at least one.
            lag: tokens of them that the drafter has not seen.
            remaining: tokens that they may still get, at the most; summed over the rows as `lag` is.
        """
        ...

    def observe(self, report: RoundReport) -> None:
        """Takes in what the round showed."""
        ...

    def regrouped(self, groups: int) -> None:
        """Rounds are from now on of so many groups of rows in flight."""
        ...


class FixedK:
    """Always the same k.

    Args:
        k: num_speculative_tokens.
        costs: measured at warm-up, at k = 0 and at k; None: what plain rounds would take is not asked for.
    """

    is_adaptive = False

    def __init__(self, k: int, costs: RoundCosts | None = None) -> None:
        self.k = k
        self.plain_seconds: float | None = None
        self._costs = costs
        self._spent = 0.0  # by late rounds, the older ones fading
        self._expected = 0.0  # for them, by the table

    def choose(self, rows: int, lag: int, remaining: int) -> Choice:
        """k, whatever the batch."""
        del lag, remaining
        if self._costs is not None:
            slowdown = self._spent / self._expected if self._expected else 1.0
            self.plain_seconds = self._costs.measured(rows, 0) * slowdown
        return Choice(self.k, rows)

    def observe(self, report: RoundReport) -> None:
        """How much slower rounds are than at warm-up: longer context, a busy machine."""
        if self._costs is not None:
            self._spent = _FADE * self._spent + report.seconds
            self._expected = _FADE * self._expected + self._costs.measured(report.rows, report.verified)

    def regrouped(self, groups: int) -> None:
        """Rounds are from now on of so many groups."""
        if self._costs is not None:
            self._costs.regroup(groups)
