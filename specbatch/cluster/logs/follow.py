"""Following the logs of a Job's pods, present and future, over lost connections, to the last line.

Two threads watch the Job and its pods; each log has one more. Up to 64 logs are followed, each on a connection of its own; more are polled.
"""

from __future__ import annotations

import contextlib
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from specbatch.cluster.client.errors import transient
from specbatch.cluster.client.kinds import PODS, Object
from specbatch.cluster.jobs.job_view import JOB_NAME, JobView
from specbatch.cluster.jobs.run import is_over
from specbatch.cluster.jobs.wait import job_changes
from specbatch.cluster.logs.tail import Line, LogTail
from specbatch.cluster.status.pod_state import has_begun, has_ended
from specbatch.errors import ClusterError

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster

_CONNECTIONS = 64
_IDLE_SECONDS, _IDLE_AT_MOST = 6.0, 60.0  # a pod logs its progress every five seconds
_GIVE_UP_SECONDS = 30.0  # of an unreadable log of a pod that has ended
_QUEUED = 1000  # lines read ahead of the consumer
_NO_LOG = {400, 404}  # the container does not exist yet, or no longer


@dataclass(frozen=True, slots=True)
class Followed:
    """A line of a pod."""

    pod: Object
    line: Line


_Event = (
    Followed | Exception | Callable[[], None]
)  # a call is made where the lines are consumed: one thread keeps the state


class Follower:
    """Follows the logs of one Job, once.

    Args:
        cluster: where the Job is.
        job: the Job.
        open_log: opens the log of a pod; None for a pod whose log is not wanted.
        pause: seconds between two polls of the same log.

    Attributes:
        job: as last read; None when it was deleted.
    """

    def __init__(
        self,
        cluster: Cluster,
        job: Object,
        open_log: Callable[[Object], LogTail | None],
        *,
        pause: float,
    ) -> None:
        self.job: Object | None = job
        self._cluster = cluster
        self._name: str = job["metadata"]["name"]
        self._watched = job
        self._open_log = open_log
        self._pause = pause
        self._pods: dict[str, Object] = {}  # by uid, as last read
        self._gone: set[str] = set()
        self._seen: set[str] = set()  # uids of pods that have begun
        self._unfinished: set[str] = set()  # of those whose logs were not read to their ends yet
        self._connections = threading.BoundedSemaphore(_CONNECTIONS)
        self._events: queue.Queue[_Event] = queue.Queue(_QUEUED)
        self._over = False
        self._stop = threading.Event()

    def lines(self) -> Iterator[Followed]:
        """Every line, until the Job has ended and every log was read to its end.

        Raises:
            ClusterError: logs cannot be read, or the API server was unreachable for ten minutes.
        """
        self._start_thread(self._watch_pods)
        self._start_thread(self._watch_job)
        try:
            while not self._over or self._unfinished:
                match self._events.get():
                    case Followed() as followed:
                        yield followed
                    case Exception() as error:
                        raise error
                    case call:
                        call()
        finally:
            self._stop.set()

    def _pod_changed(self, change: str, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        self._pods[uid] = pod
        if change == "DELETED":
            self._gone.add(uid)
        if uid in self._seen or not has_begun(pod):
            return
        self._seen.add(uid)
        tail = self._open_log(pod)
        if tail is not None:
            self._unfinished.add(uid)
            self._start_thread(partial(self._read, pod, tail))

    def _job_changed(self, job: Object | None) -> None:
        if self._over:
            return
        self.job = job
        self._over = job is None or is_over(JobView(job))
        if self._over:
            for pod in self._cluster.list(PODS, labels={JOB_NAME: self._name}):  # the watch may lag behind
                self._pod_changed("MODIFIED", pod)

    def _start_thread(self, target: Callable[[], None]) -> None:
        def run() -> None:
            try:
                target()
            except Exception as error:  # noqa: BLE001 - any error is raised where the lines are consumed
                self._put(error)

        threading.Thread(target=run, name="specbatch-logs", daemon=True).start()

    def _put(self, event: _Event) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(queue.Full):
                self._events.put(event, timeout=1)
                return

    def _watch_pods(self) -> None:
        for change, pod in self._cluster.watch(PODS, labels={JOB_NAME: self._name}):
            self._put(partial(self._pod_changed, change, pod))
            if self._stop.is_set():
                return

    def _watch_job(self) -> None:
        for job in job_changes(self._cluster, self._watched):
            self._put(partial(self._job_changed, job))
            if self._stop.is_set():
                return

    def _read(self, pod: Object, tail: LogTail) -> None:
        """Reads a log to its end."""
        uid, idle_seconds, failing_since = pod["metadata"]["uid"], _IDLE_SECONDS, math.inf
        while not self._stop.is_set():
            ended = uid in self._gone or has_ended(self._pods[uid])
            try:
                with self._connections:
                    lines = self._read_on(pod, tail, idle_seconds, ended=ended)
            except ClusterError as error:
                if error.status not in _NO_LOG and not transient(error):
                    raise
                failing_since = min(failing_since, time.monotonic())
                if ended and (error.status in _NO_LOG or time.monotonic() - failing_since >= _GIVE_UP_SECONDS):
                    break
            else:
                if ended:
                    break
                # Silence: the file was rotated and is not followed any more, or the pod logs nothing and is polled less often.
                idle_seconds = _IDLE_SECONDS if lines else min(2 * idle_seconds, _IDLE_AT_MOST)
                failing_since = math.inf
            self._stop.wait(self._pause)
        self._put(partial(self._unfinished.discard, uid))

    def _read_on(self, pod: Object, tail: LogTail, idle_seconds: float, *, ended: bool) -> int:
        """Puts the lines that were not read yet, and those that follow; returns their number."""
        count = 0
        for line in tail.catch_up(ended=ended):
            self._put(Followed(pod, line))
            count += 1
        if not ended and len(self._unfinished) <= _CONNECTIONS:
            for line in tail.follow(idle_seconds):
                self._put(Followed(pod, line))
                count += 1
                if self._stop.is_set() or len(self._unfinished) > _CONNECTIONS:
                    break
        return count
