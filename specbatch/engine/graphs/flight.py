"""Rows in their seats and rounds in flight: what the host keeps while the device is ahead of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from specbatch.engine.general.batch import Row
from specbatch.engine.graphs.state import ACCEPTED, DRAFTED, FIELDS, FINITE

Mark = torch.cuda.Event | float


def mark(device: torch.device) -> Mark:
    """This moment in the device's queue of work."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event


def seconds_between(start: Mark, end: Mark) -> float:
    """Device time between two marks that are both reached."""
    if isinstance(start, float) or isinstance(end, float):
        assert isinstance(start, float), "both marks are of one device"
        assert isinstance(end, float), "both marks are of one device"
        return end - start
    return float(start.elapsed_time(end)) / 1000.0


@dataclass(slots=True, eq=False)
class Seat:
    """A row in its slot.

    ahead: tokens that rounds in flight may still add to it, at the most
    seen: the drafter's KV is valid below this position
    fresh: every round since `seen` was set has drafted: the drafter then lacks no more than the token before the last
    gone: the row has ended or was put back; what rounds in flight say of it counts for nothing
    """

    row: Row
    slot: int
    ahead: int = 0
    seen: int = 0
    fresh: bool = False
    gone: bool = False

    @property
    def lag(self) -> int:
        """Tokens that the drafter must take in before it drafts, as far as the host knows."""
        return 0 if self.fresh else self.row.length - self.seen

    def reach(self, k: int) -> int:
        """Positions that a next round of k drafts may write, counted from 0."""
        return self.row.length + min(self.ahead, self.row.remaining) + k + 2


@dataclass(slots=True)
class Flight:
    """A round that the device is given, and what it will have done.

    outcome: RowState.outcome, copied to the host once `landed` is reached
    started, drafted, landed: moments on the device
    prefills: moments around what was prefilled before the round, and whether it was the drafter's
    plain_seconds: what the controller expected of a plain round in its place
    standing: rows that stand still meanwhile
    joined: tokens of rows that took others' seats since the round before
    """

    k: int
    seats: Sequence[Seat]
    outcome: Tensor
    started: Mark
    drafted: Mark
    landed: Mark
    plain_seconds: float | None
    prefills: list[tuple[Mark, Mark, bool]] = field(default_factory=list)
    standing: int = 0
    joined: int = 0

    def wait(self) -> Landing:
        """Waits until the device has done the round."""
        if not isinstance(self.landed, float):
            self.landed.synchronize()
        lines = self.outcome.tolist()
        alive = [(seat, line) for seat, line in zip(self.seats, lines, strict=True) if not seat.gone]
        return Landing(
            seats=[seat for seat, _ in alive],
            accepted=[line[ACCEPTED] for _, line in alive],
            drafted=[line[DRAFTED] for _, line in alive],
            finite=[bool(line[FINITE]) for _, line in alive],
            tokens=[line[FIELDS : FIELDS + line[ACCEPTED] + 1] for _, line in alive],
            draft_seconds=seconds_between(self.started, self.drafted),
            verify_seconds=seconds_between(self.drafted, self.landed),
        )


@dataclass(frozen=True, slots=True)
class Landing:
    """What a round did to the rows that are still there."""

    seats: list[Seat]
    accepted: list[int]
    drafted: list[int]
    finite: list[bool]
    tokens: list[list[int]]
    draft_seconds: float
    verify_seconds: float

    def proposed_at(self, k: int) -> list[int]:
        """[j]: rows whose drafts before position j were accepted."""
        return [sum(accepted >= j for accepted in self.accepted) for j in range(k)]

    def accepted_at(self, k: int) -> list[int]:
        """[j]: rows whose drafts up to and including position j were accepted."""
        return [sum(accepted > j for accepted in self.accepted) for j in range(k)]
