"""Retries of calls to the API server: which failures are transient, and when to give up.

Retry-After is honoured. The first call to a cluster is given up sooner, so that a wrong address is reported at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

from specbatch.backoff import Backoff
from specbatch.errors import ClusterError

T = TypeVar("T")

OUTAGE_SECONDS = 600.0  # that watches and waits survive: a control plane may be replaced meanwhile
_BACKOFF = Backoff(first=0.25, longest=8.0)


class TransientError(Exception):
    """A failure that may pass.

    Args:
        error: to raise when retries are used up.
        after: Retry-After of the server, in seconds.
        undone: whether the server has certainly not processed the call.
    """

    def __init__(self, error: ClusterError, *, after: float | None = None, undone: bool = False) -> None:
        super().__init__(str(error))
        self.error = error
        self.after = after
        self.undone = undone


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long a call is retried.

    Args:
        seconds: for all attempts of one call.
        first_seconds: the same, for a server that has never responded.
        backoff: between attempts.
        sleep, clock: for tests.
        outage: called with the seconds since a watch lost the server, and with None when it is back.
    """

    seconds: float = 30.0
    first_seconds: float = 5.0
    backoff: Backoff = _BACKOFF
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    outage: Callable[[float | None], None] = lambda _: None


def with_retries(
    call: Callable[[], T], policy: RetryPolicy, *, repeatable: bool, known: bool, seconds: float | None = None
) -> T:
    """The result of `call`, retried while it raises TransientError.

    Args:
        call: one attempt.
        policy: of retries.
        repeatable: whether an attempt with an unknown outcome may be repeated.
        known: whether the server has ever responded. Then there is a second attempt however long the first took:
            a connection that died unnoticed costs a whole read timeout.
        seconds: less time than the policy allows.

    Raises:
        ClusterError: of the last attempt.
    """
    started = policy.clock()
    budget = policy.seconds if known else policy.first_seconds
    budget = budget if seconds is None else min(budget, seconds)
    for failures in count(1):
        try:
            return call()
        except TransientError as failure:
            wait = max(policy.backoff.seconds(failures), failure.after or 0.0)
            in_time = policy.clock() - started + wait <= budget
            second_chance = failures == 1 and known and seconds is None and not failure.after
            if not (repeatable or failure.undone) or not (in_time or second_chance):
                raise failure.error from failure.__cause__
            policy.sleep(wait)
    raise AssertionError  # count() never ends
