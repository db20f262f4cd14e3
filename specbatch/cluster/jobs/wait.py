"""Waiting for the end of a Job: complete, failed, cancelled or deleted."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from specbatch.cluster.client.errors import transient
from specbatch.cluster.client.kinds import JOBS, Object
from specbatch.cluster.client.retry_policy import OUTAGE_SECONDS
from specbatch.cluster.jobs.job_view import JobView, reason_text
from specbatch.cluster.jobs.run import is_over, state_of, uid_of
from specbatch.errors import ClusterError

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster

End = Literal["complete", "failed", "cancelled", "deleted", "timeout"]

_RETRY_SECONDS = 2.0
_POLL_SECONDS = 15.0  # how often the Job is read, whatever the watch reports
# From FailureTarget until the last pods have ended: a grace period of a minute, and some time to report it.
_FAILING_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class WaitResult:
    """How a wait ended.

    Args:
        end: in one word.
        job: the Job as last read.
    """

    end: End
    job: Object

    @property
    def reason(self) -> str:
        """Reason and message of the failed Job's condition; empty where it did not fail."""
        return reason_text(JobView(self.job).failing)


def wait_for_end(
    cluster: Cluster, job: Object, *, seconds: float | None = None, changed: Callable[[JobView], None] = lambda _: None
) -> WaitResult:
    """Returns when a Job has ended, was deleted or cancelled, or the time is up.

    A Job with FailureTarget still has pods that write results until they end; it is waited for, at most 90 seconds.

    Args:
        cluster: where the Job is.
        job: the Job; a later one of the same name does not count.
        seconds: the longest wait.
        changed: called with the Job at first and after every change.

    Raises:
        ClusterError: the API server was unreachable for ten minutes, or refuses.
    """
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    failing_since = math.inf
    last = job
    for found in job_changes(cluster, job, deadline):
        if found is None:
            return WaitResult("deleted", last)
        last, view = found, JobView(found)
        changed(view)
        match state_of(view):
            case "complete" | "failed" | "cancelled" as end:
                return WaitResult(end, last)
        if view.failing is not None:
            failing_since = min(failing_since, time.monotonic())
        if time.monotonic() - failing_since > _FAILING_SECONDS:
            return WaitResult("failed", last)
    return WaitResult("timeout", last)


def job_changes(cluster: Cluster, job: Object, deadline: float = math.inf) -> Iterator[Object | None]:
    """A Job as it is now, after every change, and every 15 seconds; None when it is deleted, or another has its name.

    Ends after None, after the end of the Job, and at `deadline` (of time.monotonic).

    Raises:
        ClusterError: the API server was unreachable for ten minutes, or refuses.
    """
    name, uid = str(job["metadata"]["name"]), uid_of(job)
    unreachable_since = math.inf
    while True:
        try:
            found = cluster.find(JOBS, name)  # a watch does not report what was deleted before it began
        except ClusterError as error:
            now = time.monotonic()
            unreachable_since = min(unreachable_since, now)
            if not transient(error) or now - unreachable_since > OUTAGE_SECONDS:
                raise
            if now >= deadline:
                return
            time.sleep(_RETRY_SECONDS)
            continue
        unreachable_since = math.inf
        if found is None or uid_of(found) != uid:
            yield None
            return
        yield found
        left = deadline - time.monotonic()
        if left <= 0 or is_over(JobView(found)):
            return
        for change, item in cluster.watch(JOBS, fields={"metadata.name": name}, seconds=min(_POLL_SECONDS, left)):
            if change == "DELETED" or uid_of(item) != uid:
                yield None
                return
            yield item
        if time.monotonic() >= deadline:
            return
