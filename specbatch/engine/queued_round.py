"""A round that is queued on a device, and what the host reads of it later: by then it may have queued the next one."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from specbatch.engine.rounds import RoundOutput
from specbatch.engine.timing import Mark, reach, seconds_between, seconds_of

# Columns of a round's outcome, a line a row; behind them the k + 1 tokens.
ACCEPTED, DRAFTED, FINITE = range(3)
FIELDS = 3


@dataclass(frozen=True, slots=True)
class QueuedRound:
    """A round on one device.

    outcome: on the host once `finished` is reached  # int64 [rows, FIELDS + k + 1]
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
        reach(self.finished)
        prefill, catch_up = seconds_of(self.prefills)
        drafted, verified = seconds_between(self.started, self.drafted), seconds_between(self.drafted, self.finished)
        return read_outcome(self.outcome, drafted, verified, prefill, catch_up)


def read_outcome(outcome: Tensor, drafted: float, verified: float, prefill: float, catch_up: float) -> RoundOutput:
    """What a round did, of its outcome on the host and seconds; for these see RoundOutput."""
    lines = outcome.tolist()
    return RoundOutput(
        drafted=[line[DRAFTED] for line in lines],
        accepted=[line[ACCEPTED] for line in lines],
        finite=[line[FINITE] for line in lines],
        tokens=[line[FIELDS : FIELDS + line[ACCEPTED] + 1] for line in lines],
        draft_seconds=drafted,
        verify_seconds=verified,
        prefill_seconds=prefill,
        catch_up_seconds=catch_up,
    )
