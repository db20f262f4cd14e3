"""Stop signals: SIGTERM and SIGINT end the run in order, a second SIGINT at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self

from specbatch.errors import StoppedError

DRAIN_SECONDS = 10.0  # rows in flight may finish so long; within the 30 s that Kubernetes grants by default
_SAVING_SECONDS = 3.0  # manifest and progress file, on a slow volume
_LEAST_SECONDS = 0.1  # a timer of 0 would never ring


def drain_within(grace_seconds: float, saving_seconds: float) -> float:
    """How long rows in flight may take to finish in a pod: what comes after must fit its grace period too.

    Args:
        grace_seconds: spec.job.terminationGracePeriodSeconds.
        saving_seconds: for the last sync of rows, and for publishing what is closed.
    """
    return max(_LEAST_SECONDS, min(DRAIN_SECONDS, grace_seconds - saving_seconds - _SAVING_SECONDS))


class StopNow(BaseException):
    """What a signal raises in the main thread, wherever that is: `except Exception` in a library must not take it for its own failure."""


class StopSignals:
    """Turns signals into StoppedError, at a moment when nothing is lost by it. Within the block the error is StopNow.

    Before rows are decoded the error is raised at once. While they are (`start_draining`), `requested` is set first, which ends the
    supply of rows; rows in flight have `drain_seconds` to finish, then the error is raised wherever the main thread is. A
    second SIGINT does not wait. Outside the main thread, where no signals come, it does nothing.
    """

    def __init__(self, drain_seconds: float = DRAIN_SECONDS) -> None:
        self.requested = threading.Event()
        self.drain_seconds = drain_seconds
        self._end_supply: Callable[[], None] | None = None
        self._noted_only = False
        self._former: dict[signal.Signals, signal.Handlers | Callable[[int, FrameType | None], None] | int | None] = {}

    def __enter__(self) -> Self:
        try:
            if threading.current_thread() is threading.main_thread():
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
                    self._former[number] = signal.getsignal(number)
                    signal.signal(number, self._handle)
        except StopNow as error:  # the block is not entered yet, and will not be left
            self._restore()
            raise stopped(str(error)) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()
        if isinstance(error, StopNow):
            raise stopped(str(error)) from None

    def _restore(self) -> None:
        """The handlers that were there before."""
        self._noted_only = True
        if self._former:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former.clear()

    def start_draining(self, end_supply: Callable[[], None]) -> None:
        """From here on a first signal calls `end_supply` and lets rows in flight finish.

        Args:
            end_supply: called in a signal handler: it must take no lock that the main thread may hold.
        """
        if self.requested.is_set():
            raise stopped()
        self._end_supply = end_supply

    def finish(self) -> None:
        """From here on signals are only noted: what is finished is being saved."""
        self._noted_only = True
        if self._former:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        again = self.requested.is_set()
        self.requested.set()
        if self._noted_only:
            return
        name = signal.Signals(number).name
        if self._end_supply is None or number == signal.SIGALRM or (again and number == signal.SIGINT):
            raise StopNow(name)
        if not again:
            self._end_supply()
            signal.setitimer(signal.ITIMER_REAL, self.drain_seconds)


def stopped(why: str = "signal") -> StoppedError:
    """The error that ends a run after a stop signal."""
    return StoppedError(
        f"told to stop ({why}); every finished row is saved",
        remedy="start the same command again: it goes on from there",
    )
