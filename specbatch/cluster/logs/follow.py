"""Following the logs of a Job's pods: those that there are and those that come, over lost connections, to the last line.

Two threads watch the Job and its pods; some more read logs. A log is followed on a connection of its own while there are readers
enough; of thousands of pods, readers look at one after the other.
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
from specbatch.cluster.client.kinds import JOBS, PODS, Kind, Object
from specbatch.cluster.jobs.job_view import JOB_NAME, JobView
from specbatch.cluster.jobs.run import is_over
from specbatch.cluster.logs.tail import Line, LogTail
from specbatch.cluster.status.pod_state import has_begun, has_ended
from specbatch.errors import ClusterError

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster

_READERS = 64
_IDLE_SECONDS, _IDLE_AT_MOST = 6.0, 60.0  # a pod says a word every five seconds, once it decodes
_QUEUED = 1000  # lines that are read ahead of whoever takes them
_SLICE_SECONDS = 60.0  # how often the Job is asked for, whatever the watch says
_NO_LOG = {400, 404}  # the container is not there yet, or not any more


@dataclass(frozen=True, slots=True)
class Followed:
    """A line of a pod."""

    pod: Object
    line: Line


@dataclass(slots=True)
class _Log:
    """A log that is not told to its end."""

    pod: Object
    tail: LogTail
    not_before: float = 0.0
    idle_seconds: float = _IDLE_SECONDS
    told: int = 0
    failing_since: float | None = None


@dataclass(frozen=True, slots=True)
class _Changed:
    kind: Kind
    change: str
    item: Object


@dataclass(frozen=True, slots=True)
class _Told:
    log: _Log


class Follower:
    """Follows the logs of one Job; good for one time.

    Args:
        cluster: where the Job is.
        job: the Job.
        open_log: the log of a pod, from where it is to be told; None for a pod whose log is not wanted.
        pause: seconds between two looks at the same log.
        give_up: seconds after which a log that cannot be read of a pod that has ended is left.

    Attributes:
        job: as last seen; None where it was deleted.
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
        self._uid: str = job["metadata"]["uid"]
        self._open_log = open_log
        self._pause = pause
        self._give_up = give_up
        self._pods: dict[str, Object] = {}  # uid -> as last seen
        self._gone: set[str] = set()
        self._logs: dict[str, _Log | None] = {}  # uid -> None where it is not wanted, or told
        self._unread: queue.SimpleQueue[_Log] = queue.SimpleQueue()
        self._happened: queue.Queue[Followed | _Changed | _Told | Exception] = queue.Queue(_QUEUED)
        self._readers = 0
        self._over = False
        self._stop = threading.Event()

    def lines(self) -> Iterator[Followed]:
        """Every line, until the Job has ended and all are told.

        Raises:
            ClusterError: logs cannot be read, or the API server has been out of reach for ten minutes.
        """
        self._begin(self._watch_pods)
        self._begin(self._watch_job)
        try:
            while not self._over or any(self._logs.values()):
                match self._happened.get():
                    case Followed() as followed:
                        yield followed
                    case _Changed(kind=kind, change=change, item=item):
                        (self._see_pod if kind is PODS else self._see_job)(change, item)
                    case _Told(log=log):
                        self._logs[log.pod["metadata"]["uid"]] = None
                    case Exception() as error:
                        raise error
        finally:
            self._stop.set()

    def _see_pod(self, change: str, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        self._pods[uid] = pod
        if change == "DELETED":
            self._gone.add(uid)
        if uid in self._logs or not has_begun(pod):
            return
        tail = self._open_log(pod)
        self._logs[uid] = None if tail is None else _Log(pod, tail)
        if (log := self._logs[uid]) is not None:
            self._unread.put(log)
            if self._readers < _READERS:
                self._readers += 1
                self._begin(self._read)

    def _see_job(self, change: str, job: Object) -> None:
        ours = job["metadata"].get("uid") == self._uid
        deleted = change == "DELETED" or not ours
        if self._over or not (deleted or is_over(JobView(job))):
            self.job = job if ours and not self._over else self.job
            return
        self._over = True
        self.job = None if deleted else job
        for pod in self._cluster.list(PODS, labels={JOB_NAME: self._name}):  # the watch may not have told of all yet
            self._see_pod("MODIFIED", pod)

    def _begin(self, what: Callable[..., None], *arguments: object) -> None:
        def run() -> None:
            try:
                what(*arguments)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is raised where the lines are taken
                self._tell(error)

        threading.Thread(target=run, name="specbatch-logs", daemon=True).start()

    def _tell(self, what: Followed | _Changed | _Told | Exception) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(queue.Full):
                self._happened.put(what, timeout=1)
                return

    def _watch_pods(self) -> None:
        for change, pod in self._cluster.watch(PODS, labels={JOB_NAME: self._name}):
            self._tell(_Changed(PODS, change, pod))
            if self._stop.is_set():
                return

    def _watch_job(self) -> None:
        while not self._stop.is_set():
            now = self._cluster.find(JOBS, self._name)  # a watch says nothing of what was deleted before it began
            self._tell(
                _Changed(JOBS, "DELETED" if now is None else "MODIFIED", now or {"metadata": {"uid": self._uid}})
            )
            for change, job in self._cluster.watch(JOBS, fields={"metadata.name": self._name}, seconds=_SLICE_SECONDS):
                self._tell(_Changed(JOBS, change, job))

    def _read(self) -> None:
        """A reader: takes logs in turn."""
        while not self._stop.is_set():
            with contextlib.suppress(queue.Empty):
                log = self._unread.get(timeout=1)
                self._stop.wait(max(0.0, log.not_before - time.monotonic()))
                if self._turn(log):
                    self._tell(_Told(log))
                else:
                    log.not_before = time.monotonic() + self._pause
                    self._unread.put(log)

    def _turn(self, log: _Log) -> bool:
        """Reads on in a log; whether that was the end of it."""
        ended, told = self._writes_no_more(log), log.told
        try:
            for line in log.tail.catch_up(ended=ended):
                self._tell_line(log, line)
            log.failing_since = None
            if not ended and self._unread.empty():
                for line in log.tail.follow(log.idle_seconds):
                    self._tell_line(log, line)
                    if self._stop.is_set() or not self._unread.empty():
                        break
        except ClusterError as error:
            if error.status in _NO_LOG:
                return ended
            if not transient(error):
                raise
            now = time.monotonic()
            log.failing_since = log.failing_since or now
            return ended and now - log.failing_since >= self._give_up
        # Silence is a rotated file that is not followed any more, or a pod that has nothing to say: that one is asked less often.
        log.idle_seconds = _IDLE_SECONDS if log.told > told else min(2 * log.idle_seconds, _IDLE_AT_MOST)
        return ended

    def _tell_line(self, log: _Log, line: Line) -> None:
        log.told += 1
        self._tell(Followed(log.pod, line))

    def _writes_no_more(self, log: _Log) -> bool:
        uid = log.pod["metadata"]["uid"]
        return uid in self._gone or has_ended(self._pods[uid])
