"""A round in flight, and what it did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from specbatch.engine.request import TokenLogprobs
from specbatch.engine.sequence import SequenceState
from specbatch.engine.speculation.controller import RoundReport


@dataclass(frozen=True, slots=True)
class RoundOutput:
    """What a round did, on the host: a value a sequence, in the order in which it was launched for them.

    drafted, accepted: draft tokens
    finite: positions before the first at which the target's logits were not
    tokens: the accepted + 1 committed ones
    logprobs: of these, where any sequence asks
    forced: [j] whether draft j was the only token that the sequence's grammar allowed; None where none has a grammar
    draft_seconds, verify_seconds, accept_seconds: of the round; accept is part of verify where a device does both at once
    prefill_seconds: of the prefills since the round before; catch_up_seconds: the drafter's part of them
    cascade: whether sequences read what they begin with alike together
    busy_seconds: by device, of `busy_of` seconds of the run; empty unless the round was timed device by device
    """

    drafted: list[int]
    accepted: list[int]
    finite: list[int]
    tokens: list[list[int]]
    draft_seconds: float
    verify_seconds: float
    accept_seconds: float = 0.0
    prefill_seconds: float = 0.0
    catch_up_seconds: float = 0.0
    logprobs: Sequence[Sequence[TokenLogprobs]] | None = None
    forced: Sequence[Sequence[bool]] | None = None
    busy_seconds: Mapping[str, float] = field(default_factory=dict)
    busy_of: float = 0.0
    cascade: bool = False

    def of(self, places: Sequence[int]) -> RoundOutput:
        """Of the sequences at these places, in this order."""
        return replace(
            self,
            drafted=[self.drafted[place] for place in places],
            accepted=[self.accepted[place] for place in places],
            finite=[self.finite[place] for place in places],
            tokens=[self.tokens[place] for place in places],
            logprobs=None if self.logprobs is None else [self.logprobs[place] for place in places],
            forced=None if self.forced is None else [self.forced[place] for place in places],
        )

    @property
    def seconds(self) -> float:
        """Of the round, without prefills."""
        return self.draft_seconds + self.verify_seconds + self.accept_seconds

    def proposed_at(self, k: int) -> list[int]:
        """[j]: sequences whose drafts before position j were accepted: of these the target judged draft j."""
        return [sum(accepted >= j for accepted in self.accepted) for j in range(k)]

    def accepted_at(self, k: int) -> list[int]:
        """[j]: sequences whose drafts up to and including position j were accepted."""
        return [sum(accepted > j for accepted in self.accepted) for j in range(k)]

    def forced_at(self, k: int) -> tuple[list[int], list[int]]:
        """[j]: of proposed_at and accepted_at, the sequences whose draft j their grammar had forced."""
        rows = list(zip(self.accepted, self.forced or (), strict=self.forced is not None))
        proposed = [sum(accepted >= j and forced[j] for accepted, forced in rows) for j in range(k)]
        return proposed, [sum(accepted > j and forced[j] for accepted, forced in rows) for j in range(k)]

    @property
    def grammar_drafted(self) -> int:
        """Drafts that grammars had forced."""
        return sum(sum(row[:drafted]) for row, drafted in zip(self.forced or (), self.drafted, strict=False))


class InFlightRound(Protocol):
    """A round that was launched."""

    def wait(self) -> RoundOutput:
        """Waits until the device has done the round. Called once, in the order of the launches."""
        ...


@dataclass(slots=True)
class LaunchedRound:
    """A round in flight, and what the host will want to know when it takes in its output.

    plain_seconds: what the controller expected of a round at k = 0 in its place
    standing: sequences that stand still meanwhile
    joined: tokens of sequences that took others' slots since the round before
    by_grammar: whether grammars made its drafts, and the drafter had no part in it
    """

    in_flight: InFlightRound
    k: int
    sequences: Sequence[SequenceState]
    plain_seconds: float | None
    standing: int
    joined: int
    by_grammar: bool = False

    def wait(self) -> RoundOutput:
        """What it did, once the device has done it."""
        output = self.in_flight.wait()
        if not self.by_grammar:
            return output
        return replace(output, forced=[[True] * count + [False] * (self.k - count) for count in output.drafted])

    def seconds_alone(self, output: RoundOutput) -> float | None:
        """Of a plain round in its place; where grammars made its drafts and nothing is known of plain ones, as long as it took."""
        return output.seconds if self.k == 0 or (self.by_grammar and not self.plain_seconds) else self.plain_seconds

    def report(self, output: RoundOutput) -> RoundReport:
        """What its controller is told: of drafts the drafter's own."""
        k, proposed_at, accepted_at, forced = self.k, output.proposed_at(self.k), output.accepted_at(self.k), 0
        if output.forced is not None:
            at = output.forced_at(k)
            proposed_at, accepted_at = (
                [every - of_grammar for every, of_grammar in zip(*each, strict=True)]
                for each in zip((proposed_at, accepted_at), at, strict=True)
            )
            forced = sum(at[1])
        spent = output.seconds, proposed_at, accepted_at, output.catch_up_seconds
        return RoundReport(
            len(output.accepted), k, *spent, max(output.drafted), self.standing, self.joined, forced=forced
        )

    @property
    def group(self) -> int:
        """Of the sequences."""
        return self.sequences[0].group
