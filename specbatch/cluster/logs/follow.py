"""Following the logs of a Job's pods, present and future, over lost connections, to the last line.

Two threads watch the Job and its pods; each log has one more. Up to 64 logs are followed, each on a connection of its own; more are polled.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
_QUEUED = 1000  # lines read ahead of the consumer
_NO_LOG = {400, 404}  # the container does not exist yet, or no longer


@dataclass(frozen=True, slots=True)
class Followed:
    """A line of a pod."""

    pod: Object
    line: Line


@dataclass(slots=True)
class _Log:
    """A log that was not read to its end."""

    pod: Object
    tail: LogTail
    idle_seconds: float = _IDLE_SECONDS
    lines: int = 0
    failing_since: float | None = None


@dataclass(frozen=True, slots=True)
class _PodChanged:
    change: str
    pod: Object


@dataclass(frozen=True, slots=True)
class _JobChanged:
    job: Object | None


@dataclass(frozen=True, slots=True)
class _LogEnded:
    log: _Log


_Event = Followed | _PodChanged | _JobChanged | _LogEnded | Exception


class Follower:
    """Follows the logs of one Job, once.

    Args:
        cluster: where the Job is.
        job: the Job.
        open_log: opens the log of a pod; None for a pod whose log is not wanted.
        pause: seconds between two polls of the same log.
        give_up: seconds after which an unreadable log of a pod that has ended is abandoned.

    Attributes:
        job: as last read; None when it was deleted.
    """

    def __init__(
        self,
        cluster: Cluster,
        job: Object,
        open_log: Callable[[Object], LogTail | None],
        *,
        pause: float = 1.0,
        give_up: float = 30.0,
    ) -> None:
        self.job: Object | None = job
        self._cluster = cluster
        self._name: str = job["metadata"]["name"]
        self._watched = job
        self._open_log = open_log
        self._pause = pause
        self._give_up = give_up
        self._pods: dict[str, Object] = {}  # by uid, as last read
        self._gone: set[str] = set()
        self._logs: dict[str, _Log | None] = {}  # uid -> None where it is not wanted, or was read to its end
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
            while not self._over or any(self._logs.values()):
                match self._events.get():
                    case Followed() as followed:
                        yield followed
                    case _PodChanged(change=change, pod=pod):
                        self._pod_changed(change, pod)
                    case _JobChanged(job=job):
                        self._job_changed(job)
                    case _LogEnded(log=log):
                        self._logs[log.pod["metadata"]["uid"]] = None
                    case Exception() as error:
                        raise error
        finally:
            self._stop.set()

    def _pod_changed(self, change: str, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        self._pods[uid] = pod
        if change == "DELETED":
            self._gone.add(uid)
        if uid in self._logs or not has_begun(pod):
            return
        tail = self._open_log(pod)
        log = self._logs[uid] = None if tail is None else _Log(pod, tail)
        if log is not None:
            self._start_thread(lambda: self._read(log))

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
            self._put(_PodChanged(change, pod))
            if self._stop.is_set():
                return

    def _watch_job(self) -> None:
        for job in job_changes(self._cluster, self._watched):
            self._put(_JobChanged(job))
            if self._stop.is_set():
                return

    def _read(self, log: _Log) -> None:
        """Reads a log to its end."""
        ended = False
        while not ended and not self._stop.is_set():
            with self._connections:
                ended = self._read_on(log)
            self._stop.wait(0 if ended else self._pause)
        self._put(_LogEnded(log))

    def _crowded(self) -> bool:
        return sum(log is not None for log in list(self._logs.values())) > _CONNECTIONS

    def _read_on(self, log: _Log) -> bool:
        """Reads what a log has beyond what was read; whether that was its end."""
        ended, before = self._has_ended(log), log.lines
        try:
            for line in log.tail.catch_up(ended=ended):
                self._put_line(log, line)
            log.failing_since = None
            if not ended and not self._crowded():
                for line in log.tail.follow(log.idle_seconds):
                    self._put_line(log, line)
                    if self._stop.is_set() or self._crowded():
                        break
        except ClusterError as error:
            if error.status in _NO_LOG:
                return ended
            if not transient(error):
                raise
            now = time.monotonic()
            log.failing_since = log.failing_since or now
            return ended and now - log.failing_since >= self._give_up
        # Silence: the file was rotated and is not followed any more, or the pod logs nothing and is polled less often.
        log.idle_seconds = _IDLE_SECONDS if log.lines > before else min(2 * log.idle_seconds, _IDLE_AT_MOST)
        return ended

    def _put_line(self, log: _Log, line: Line) -> None:
        log.lines += 1
        self._put(Followed(log.pod, line))

    def _has_ended(self, log: _Log) -> bool:
        uid = log.pod["metadata"]["uid"]
        return uid in self._gone or has_ended(self._pods[uid])
