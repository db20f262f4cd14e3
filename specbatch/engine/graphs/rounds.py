"""Rounds over several lanes, with log probabilities, grammars, shared pages; one as it is on one lane is a QueuedRound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from specbatch.engine.graphs.cuda_graphs import Span
from specbatch.engine.graphs.lanes import Lane
from specbatch.engine.logits.grammar import GrammarRound
from specbatch.engine.logits.logprobs import Logprobs
from specbatch.engine.queued_round import read_outcome
from specbatch.engine.rounds import InFlightRound, RoundOutput
from specbatch.engine.timing import Mark, reach, seconds_between, seconds_of


@dataclass(frozen=True, slots=True)
class RoundWithLogprobs:
    """A round, and the log probabilities of its tokens, copied to the host once `copied` is reached.

    asked: see Request.top_logprobs
    """

    in_flight: InFlightRound
    logprobs: Logprobs
    asked: Sequence[int | None]
    copied: Mark

    def wait(self) -> RoundOutput:
        """What it did."""
        output = self.in_flight.wait()
        reach(self.copied)
        return replace(output, logprobs=self.logprobs.of_tokens(output.tokens, self.asked))


@dataclass(frozen=True, slots=True)
class MaskedRound:
    """A round with rows that have grammars."""

    in_flight: InFlightRound
    grammars: GrammarRound

    def wait(self) -> RoundOutput:
        """What it did."""
        return replace(self.in_flight.wait(), forced=self.grammars.forced)


@dataclass(frozen=True, slots=True)
class CascadeRound:
    """A round whose rows read shared pages together."""

    in_flight: InFlightRound

    def wait(self) -> RoundOutput:
        """What it did."""
        return replace(self.in_flight.wait(), cascade=True)


@dataclass(frozen=True, slots=True)
class Spans:
    """When which lane was at work for a round."""

    of_drafter: list[Span] = field(default_factory=list)
    of_target: list[Span] = field(default_factory=list)

    def seconds(self) -> tuple[dict[Lane, float], dict[Lane, float]]:
        """By lane of the drafter, and of the target, once all is reached."""
        return _by_lane(self.of_drafter), _by_lane(self.of_target)


def _by_lane(spans: list[Span]) -> dict[Lane, float]:
    found: dict[Lane, float] = {}
    for lane, start, end in spans:
        found[lane] = found.get(lane, 0.0) + seconds_between(start, end)
    return found


@dataclass(slots=True)
class BusyLanes:
    """What lanes were busy for in the rounds that were timed lane by lane.

    seconds: by lane, summed over `rounds`
    """

    seconds: dict[Lane, float]
    rounds: int = 0

    def count(self, by_lane: Mapping[Lane, float]) -> None:
        """Adds a round."""
        self.rounds += 1
        for lane, seconds in by_lane.items():
            self.seconds[lane] += seconds


@dataclass(frozen=True, slots=True)
class RoundOverLanes:
    """A round over several lanes, beside others: it takes what lies between its end and that of the round before.

    before: end of that round, None where there is none
    outcome, finished, prefills: see QueuedRound
    drafting: the drafter's share of a round's work
    spans: of a round that is timed lane by lane: it takes no longer than it would alone, whatever it waited for
    busy: where such a round is counted
    steady: it followed other rounds without a pause
    """

    outcome: Tensor
    before: Mark | None
    finished: Mark
    prefills: list[tuple[Mark, Mark, bool]]
    drafting: float
    spans: Spans | None
    busy: BusyLanes
    steady: bool

    def wait(self) -> RoundOutput:
        """Waits until the devices have done the round."""
        reach(self.finished)
        for _, end, _ in self.prefills:
            reach(end)  # a catch-up for a group whose round is launched later
        prefill, catch_up = seconds_of(self.prefills)
        between = 0.0
        if self.before is not None:
            between = max(0.0, seconds_between(self.before, self.finished) - (prefill - catch_up))
        if self.spans is None:
            return _output(self.outcome, self.drafting, between, prefill, catch_up)
        of_drafter, of_target = self.spans.seconds()
        by_lane = of_drafter | of_target
        alone = sum(by_lane.values())
        self.busy.count(by_lane)
        seconds = min(between, alone) if between and alone else between or alone
        share = sum(of_drafter.values()) / alone if alone else self.drafting
        output = _output(self.outcome, share, seconds, prefill, catch_up)
        idle = dict.fromkeys(self.busy.seconds, 0.0) if of_drafter else {}  # of several drafters all but one
        return replace(output, busy_seconds=_by_device(idle | by_lane), busy_of=between) if self.steady else output


def _by_device(seconds: Mapping[Lane, float]) -> dict[str, float]:
    found: dict[str, float] = {}
    for lane, each in seconds.items():
        found[str(lane.device)] = found.get(str(lane.device), 0.0) + each
    return found


def _output(outcome: Tensor, share: float, seconds: float, prefill: float, catch_up: float) -> RoundOutput:
    """share: of the seconds, the drafter's."""
    return read_outcome(outcome, share * seconds, (1 - share) * seconds, prefill, catch_up)
