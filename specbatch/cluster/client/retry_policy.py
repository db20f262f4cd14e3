"""Trying again: which failures of a call are worth it, how long to wait in between, and when to give up.

Waits grow exponentially with jitter (many shards must not come back at once); what the server asks for in
Retry-After is kept to. The first call to a cluster is given up sooner: a wrong address should be told at once.
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

_BACKOFF = Backoff(first=0.25, longest=8.0)


class TransientError(Exception):
    """A call failed in a way that may pass.

    Args:
        error: what to say when it does not.
        after: seconds the server asks to wait.
        undone: whether it is sure that the server has not carried it out.
    """

    def __init__(self, error: ClusterError, *, after: float | None = None, undone: bool = False) -> None:
        super().__init__(str(error))
        self.error = error
        self.after = after
        self.undone = undone


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to go on, and the clock to measure it by.

    Args:
        seconds: for all tries of one call.
        first_seconds: for the first call to a server that has never answered.
        backoff: between tries.
        sleep, clock: for tests.
        outage: is told of the seconds since a watch has last heard of the server, and of None whenever it does.
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
    """The result of `call`, tried again while it raises TransientError.

    Args:
        call: one try.
        policy: how long.
        repeatable: whether a try whose end is unknown may be made again.
        known: whether the server has ever answered. Such a one gets a second try however long the first took:
            a connection that has died unnoticed costs a whole read timeout.
        seconds: less time than `policy` gives.

    Raises:
        ClusterError: the last try's.
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
