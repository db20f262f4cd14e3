"""Retries calls to a store or hub that is out of reach, with growing pauses and a time limit, and reports it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from specbatch.backoff import Backoff
from specbatch.errors import OutOfReachError
from specbatch.redact import redact
from specbatch.results.storage.stores import reason_of
from specbatch.runner.transient_errors import cause_of, is_transient

START_SECONDS = 15.0  # before the first row nothing is lost by ending: whoever started the run hears why at once
RETRY_SECONDS = 60.0
_LONG_CALL_SECONDS = (
    30.0  # a call that failed after so long had got somewhere: no silent connection is waited for that long
)
_MOST_TRIES = 40
_LONGEST_PAUSE = 10.0
_ADVERTISED = " For more information check:"  # httpx's

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is waited for, why, and since when (Unix time)."""

    where: str
    reason: str
    since: float

    def __str__(self) -> str:
        return f"{self.where} is out of reach, and tried again: {self.reason}"


class Retrier:
    """Calls again what an outage made fail. `waiting` and `cancel` may be used from other threads.

    Args:
        seconds: give up once nothing has worked for so long.
        say: shows a line to people: when it begins to fail, and when it works again.
        backoff: between tries.
        clock: seconds.

    Attributes:
        seconds: as given, or less for now.
        waiting: what is waited for now; None while all is well.
    """

    def __init__(
        self,
        seconds: float = RETRY_SECONDS,
        *,
        say: Callable[[str], None] = lambda _line: None,
        backoff: Backoff | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.seconds = seconds
        self.waiting: Waiting | None = None
        self._say = say
        self._backoff = backoff or Backoff(longest=_LONGEST_PAUSE)
        self._clock = clock
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """No further retries: the result is not needed any more."""
        self._cancelled.set()

    @contextmanager
    def at_most(self, seconds: float) -> Iterator[None]:
        """Gives up earlier within the block."""
        before, self.seconds = self.seconds, min(self.seconds, seconds)
        try:
            yield
        finally:
            self.seconds = before

    def call(self, call: Callable[[], Answer], *, where: str, was_permitted: bool = False) -> Answer:
        """The call's result, after as many tries as it takes.

        Args:
            call: may be called any number of times.
            where: what it asks, for people.
            was_permitted: as `is_transient`.

        Raises:
            OutOfReachError: it failed for `seconds`, in ways that may pass.
            Exception: what the call raised, where trying again is of no use.
        """
        failures, failing_since = 0, self._clock()
        while True:
            began = self._clock()
            try:
                answer = call()
            except Exception as error:
                if not is_transient(error, was_permitted=was_permitted):
                    self.waiting = None
                    raise
                now, failures = self._clock(), failures + 1
                failing_since = now if now - began > _LONG_CALL_SECONDS else failing_since
                self._failed(where, short_reason(error))
                over = now - failing_since >= self.seconds or failures >= _MOST_TRIES
                if over or self._cancelled.wait(min(self._backoff.seconds(failures), self.seconds)):
                    self.waiting = None
                    raise out_of_reach(where, error, tries=failures) from error
            else:
                if self.waiting is not None:
                    self.waiting = None
                    self._say(f"{where} answers again")
                return answer

    def _failed(self, where: str, reason: str) -> None:
        if self.waiting is None:
            self.waiting = Waiting(where, reason, time.time())
            self._say(f"{self.waiting} (for up to {self.seconds:.0f} s)")
        else:
            self.waiting = Waiting(where, reason, self.waiting.since)


def out_of_reach(where: str, error: BaseException, *, tries: int = 1) -> OutOfReachError:
    """The error that ends a run which could not wait any longer."""
    after = "" if tries == 1 else f" after {tries} tries"
    return OutOfReachError(
        f"out of reach for now{after}: {short_reason(error)}",
        where=where,
        remedy="start the same command again once it answers (finished rows are kept); where it stays so, check that this machine "
        "reaches it (DNS, proxy, network policy) and that its credentials have not expired",
    )


def short_reason(error: BaseException) -> str:
    """What happened, in a line: the name of the error, and what its innermost cause says."""
    cause = cause_of(error)
    reason = reason_of(cause if isinstance(cause, Exception) else Exception(str(cause))).partition(_ADVERTISED)[0]
    reason = redact(reason)
    name = type(cause).__name__
    return reason if name in reason or isinstance(cause, TimeoutError) else f"{name}: {reason}"
