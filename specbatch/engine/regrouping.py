"""When rounds, as they are measured, say that another number of groups of rows in flight gives more."""

from __future__ import annotations

from specbatch.engine.pipeline import PipelineCosts, best_groups, speeds_by_groups
from specbatch.engine.speculation.acceptance_rates import AcceptanceEstimate
from specbatch.engine.speculation.controller import RoundReport

_GAIN = 1.05  # that a change must promise: warm-up's figures for what was not tried are a tenth off
_KNOWN_GAIN = 1.01  # back to fewer, which were measured: more than noise
_PATIENCE = 64  # rounds between two looks: a change costs about a cycle, in which the rounds in flight land
_MOST_PATIENCE = 1024  # where changes are taken back again and again


class Regrouping:
    """Watches rounds for the number of groups that they ask for.

    A number that was not tried yet is judged by warm-up's times and by what all rounds are slower than these; once tried, by its own rounds.

    Args:
        costs: of rounds, as warm-up measured them.
    """

    def __init__(self, costs: PipelineCosts) -> None:
        self.costs = costs
        self.acceptance = AcceptanceEstimate()
        self._rounds = 0  # since the last look
        self._patience = _PATIENCE
        self._left: set[int] = set()  # numbers of groups that there were before

    def observe(self, report: RoundReport) -> None:
        """Takes in what a round showed."""
        self._rounds += 1
        self.costs.observe(report.rows, report.k, report.seconds)
        if report.k:
            self.acceptance.observe(report.proposed_at, report.accepted_at)

    def groups(self, rows: int) -> int:
        """How many there are to be for so many rows."""
        now = self.costs.groups
        if self._rounds < self._patience or not rows:
            return now
        self._rounds = 0
        speeds = speeds_by_groups(self.costs, rows, self.acceptance.expected_tokens)
        best = best_groups(speeds)
        gain = _KNOWN_GAIN if best < now and best in self._left else _GAIN
        return best if now not in speeds or speeds[best] > gain * speeds[now] else now

    def regrouped(self, groups: int) -> None:
        """Rounds are from now on of so many groups."""
        if groups == self.costs.groups:
            return
        if groups in self._left:
            self._patience = min(2 * self._patience, _MOST_PATIENCE)
        self._left.add(self.costs.groups)
        self.costs.regroup(groups)
        self._rounds = 0
