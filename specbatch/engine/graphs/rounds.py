"""Rounds that the devices are given, and what the host reads of them afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from specbatch.engine.graphs.cuda_graphs import Span
from specbatch.engine.graphs.lanes import Lane
from specbatch.engine.graphs.state import ACCEPTED, DRAFTED, FIELDS, FINITE
from specbatch.engine.rounds import RoundOutput
from specbatch.engine.timing import Mark, seconds_between, seconds_of


@dataclass(frozen=True, slots=True)
class GraphRound:
    """A round on one lane.

    outcome: RowState.outcome, copied to the host once `finished` is reached
    started, drafted, finished: moments on the device
    prefills: see PrefillTimer.take
    """

    outcome: Tensor
    started: Mark
    drafted: Mark
    finished: Mark
    prefills: list[tuple[Mark, Mark, bool]]

    def wait(self) -> RoundOutput:
        """Waits until the device has done the round."""
        _reach(self.finished)
        prefill, catch_up = seconds_of(self.prefills)
        drafted, verified = seconds_between(self.started, self.drafted), seconds_between(self.drafted, self.finished)
        return _output(self.outcome, drafted, verified, prefill, catch_up)


@dataclass(frozen=True, slots=True)
class Spans:
    """When which lane was at work for a round.

    busy: the seconds are added to it
    """

    busy: dict[Lane, float]
    of_drafter: list[Span] = field(default_factory=list)
    of_target: list[Span] = field(default_factory=list)

    def seconds(self) -> tuple[float, float]:
        """Of the drafter, and of the target."""
        return self._sum(self.of_drafter), self._sum(self.of_target)

    def _sum(self, spans: list[Span]) -> float:
        total = 0.0
        for lane, start, end in spans:
            seconds = seconds_between(start, end)
            self.busy[lane] += seconds
            total += seconds
        return total


@dataclass(frozen=True, slots=True)
class RoundOverLanes:
    """A round over several lanes, beside others: it takes what lies between its end and that of the round before.

    before: end of that round, None where there is none
    outcome, finished, prefills: see GraphRound
    """

    outcome: Tensor
    before: Mark | None
    finished: Mark
    spans: Spans
    prefills: list[tuple[Mark, Mark, bool]]

    def wait(self) -> RoundOutput:
        """Waits until the devices have done the round."""
        _reach(self.finished)
        for _, end, _ in self.prefills:
            _reach(end)  # a catch-up for a group whose round is launched later
        prefill, catch_up = seconds_of(self.prefills)
        drafted, verified = self.spans.seconds()
        alone = drafted + verified
        seconds = alone
        if self.before is not None:
            between = max(0.0, seconds_between(self.before, self.finished) - (prefill - catch_up))
            seconds = min(between, alone) if alone else between
        share = drafted / alone if alone else 0.0
        return _output(self.outcome, share * seconds, (1 - share) * seconds, prefill, catch_up)


def _reach(mark: Mark) -> None:
    if not isinstance(mark, float):
        mark.synchronize()


def _output(outcome: Tensor, drafted: float, verified: float, prefill: float, catch_up: float) -> RoundOutput:
    lines = outcome.tolist()
    return RoundOutput(
        drafted=[line[DRAFTED] for line in lines],
        accepted=[line[ACCEPTED] for line in lines],
        finite=[bool(line[FINITE]) for line in lines],
        tokens=[line[FIELDS : FIELDS + line[ACCEPTED] + 1] for line in lines],
        draft_seconds=drafted,
        verify_seconds=verified,
        prefill_seconds=prefill,
        catch_up_seconds=catch_up,
    )
