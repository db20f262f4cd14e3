"""Waiting for a Job's end, whichever it is: Complete, Failed, deleted, cancelled."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from specbatch.cluster.client.errors import transient
from specbatch.cluster.client.kinds import JOBS, Object
from specbatch.cluster.jobs.job_view import JobView
from specbatch.cluster.jobs.run import state_of, uid_of
from specbatch.errors import ClusterError

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster

End = Literal["complete", "failed", "cancelled", "deleted", "timeout"]

_OUTAGE_SECONDS = 600.0  # a control plane may be replaced meanwhile
_AGAIN_SECONDS = 2.0
_SLICE_SECONDS = 60.0  # how often the Job is asked for, whatever the watch says
_FAILING_SLICE_SECONDS = 5.0
_PODS_END_SECONDS = (
    90.0  # from the decision that a Job fails until its last pods have ended, with a grace period of a minute
)


@dataclass(frozen=True, slots=True)
class WaitResult:
    """How the wait ended.

    Args:
        end: in one word.
        job: the Job as it was last seen.
    """

    end: End
    job: Object

    @property
    def reason(self) -> str:
        """Why it failed, in the control plane's words; empty where it did not."""
        failing = JobView(self.job).failing
        return "" if failing is None else ": ".join(filter(None, (failing.get("reason"), failing.get("message"))))


def wait_for_end(
    cluster: Cluster, job: Object, *, seconds: float | None = None, changed: Callable[[JobView], None] = lambda _: None
) -> WaitResult:
    """Returns when a Job has ended, is gone, or was cancelled, or the time is up.

    A Job that is sure to fail (FailureTarget) still has pods that end, and write: they are waited for, but not for ever.

    Args:
        cluster: where it is.
        job: the Job; one of the same name that comes later is another.
        seconds: at most.
        changed: is told of the Job at first, and whenever it changes.

    Raises:
        ClusterError: the API server has been out of reach for ten minutes, or refuses.
    """
    name, uid = str(job["metadata"]["name"]), uid_of(job)
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    failing_since = math.inf
    last = job
    while True:
        try:
            found = _ask(cluster, name, deadline)  # a watch says nothing of what was deleted before it began
        except TimeoutError:
            return WaitResult("timeout", last)
        if found is None:
            return WaitResult("deleted", last)
        for event, last in _states(cluster, found, min(_slice(failing_since), deadline - time.monotonic())):
            if event == "DELETED" or uid_of(last) != uid:
                return WaitResult("deleted", last)
            view = JobView(last)
            changed(view)
            end = _end(view)
            if end is not None:
                return WaitResult(end, last)
            if view.failing is not None:
                failing_since = min(failing_since, time.monotonic())
        now = time.monotonic()
        if now - failing_since > _PODS_END_SECONDS:
            return WaitResult("failed", last)
        if now >= deadline:
            return WaitResult("timeout", last)


def _ask(cluster: Cluster, name: str, deadline: float) -> Object | None:
    """The Job, over an outage of the API server; TimeoutError at the deadline."""
    began = time.monotonic()
    while True:
        try:
            return cluster.find(JOBS, name)
        except ClusterError as error:
            if not transient(error) or time.monotonic() - began > _OUTAGE_SECONDS:
                raise
            if time.monotonic() >= deadline:
                raise TimeoutError from error
        time.sleep(_AGAIN_SECONDS)


def _slice(failing_since: float) -> float:
    """How long to watch before asking again."""
    return _SLICE_SECONDS if failing_since == math.inf else _FAILING_SLICE_SECONDS


def _states(cluster: Cluster, found: Object, seconds: float) -> Iterator[tuple[str, Object]]:
    yield "MODIFIED", found
    if seconds > 0:
        yield from cluster.watch(JOBS, fields={"metadata.name": found["metadata"]["name"]}, seconds=seconds)


def _end(view: JobView) -> End | None:
    match state_of(view):
        case "complete" | "failed" | "cancelled" as end:
            return end
        case _:
            return None
