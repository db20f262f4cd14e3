"""The logs of a run: shard by shard as they are now, or followed until the Job has ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from specbatch.cluster.client.errors import DROPPED
from specbatch.cluster.client.kinds import Object
from specbatch.cluster.jobs.job_view import JobView, format_indexes, pod_index
from specbatch.cluster.jobs.lookup import job_with_pods
from specbatch.cluster.logs.follow import Follower
from specbatch.cluster.logs.tail import Line, LogTail
from specbatch.cluster.status.pod_log import readable
from specbatch.cluster.status.pod_state import has_ended
from specbatch.errors import ClusterError

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster

_OUTAGE_SECONDS = 60.0
_AGAIN_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """Which lines are shown, and how.

    Args:
        shard: of one shard only.
        tail: begin with so many of the last lines of each pod.
        seconds: begin with lines that are not older.
        previous: of the pod before the newest.
        timestamps: with the time before each line.
        raw: unchanged; else the runner's events in words.
    """

    shard: int | None = None
    tail: int | None = None
    seconds: float | None = None
    previous: bool = False
    timestamps: bool = False
    raw: bool = False

    @property
    def since(self) -> str | None:
        """The time of the first line, RFC 3339."""
        if self.seconds is None:
            return None
        return datetime.fromtimestamp(time.time() - self.seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def shown(self, line: Line, shard: int | None) -> str:
        """A line as it is printed; with its `shard` if given."""
        text = line.text if self.raw else readable(line.text)
        stamp = f"{line.stamp} " if self.timestamps and line.stamp else ""
        return f"{'' if shard is None else f'[shard {shard}] '}{stamp}{text}"


def read_logs(
    cluster: Cluster, job: Object, emit: Callable[[str], None], options: LogOptions, say: Callable[[str], None]
) -> None:
    """The logs of a Job's pods as they are now, shard by shard, of the newest pod each.

    Args:
        cluster: where the Job is.
        job: the Job.
        emit: called with each line.
        options: which lines.
        say: called with a sentence for each pod without a log.

    Raises:
        ClusterError: logs cannot be read, or the Job has no pod.
    """
    view = job_with_pods(cluster, job)
    pods = _chosen(cluster, view, options)
    for index, pod in pods:
        shard = view.shards[index]
        tail = LogTail(cluster, pod["metadata"]["name"], tail=options.tail, since=options.since)
        try:
            for line in _read(tail, ended=has_ended(pod)):
                emit(options.shown(line, shard if _several(view, options) else None))
        except ClusterError as error:
            if error.status not in {400, 404}:
                raise
            say(f"shard {shard}: no log of pod {tail.pod} yet: {error.message}")


def follow_run(
    cluster: Cluster,
    job: Object,
    emit: Callable[[str], None],
    options: LogOptions | None = None,
    *,
    pause: float = 1.0,
) -> Object | None:
    """Every line of a Job's pods as it is written, until the Job has ended and every log was read to its end.

    Of each shard the log of the newest pod is read from its beginning, and those of all later pods. No line is missed or shown
    twice over lost connections; the log of a deleted pod ends.

    Args:
        cluster: where the Job is.
        job: the Job.
        emit: called with each line, in the caller's thread.
        options: which lines.
        pause: seconds between two polls of the same log.

    Returns:
        The Job as it ended; None if it was deleted.

    Raises:
        ClusterError: logs cannot be read, or the API server was unreachable for ten minutes.
    """
    options = options or LogOptions()
    view = job_with_pods(cluster, job)
    _check_shard(view, options)
    old = {pod["metadata"]["uid"] for pods in view.pods_by_index.values() for pod in pods[:-1]}
    wanted = None if options.shard is None else view.shards.index(options.shard)

    def open_log(pod: Object) -> LogTail | None:
        if pod["metadata"]["uid"] in old or (wanted is not None and pod_index(pod) != wanted):
            return None
        return LogTail(cluster, pod["metadata"]["name"], tail=options.tail, since=options.since)

    follower = Follower(cluster, job, open_log, pause=pause)
    several = _several(view, options)
    for followed in follower.lines():
        index = pod_index(followed.pod)
        emit(options.shown(followed.line, view.shards[index] if several and index is not None else None))
    return follower.job


def _chosen(cluster: Cluster, view: JobView, options: LogOptions) -> list[tuple[int, Object]]:
    """(index, pod) of the pods whose logs are wanted."""
    _check_shard(view, options)
    wanted = range(view.completions) if options.shard is None else [view.shards.index(options.shard)]
    back = -2 if options.previous else -1
    pods = view.pods_by_index
    found = [(index, pods[index][back]) for index in wanted if len(pods.get(index, ())) >= -back]
    if not found:
        where = f"Job {view.name}" + ("" if options.shard is None else f", shard {options.shard}")
        message = "there was no pod before the newest" if options.previous else "there is no pod"
        remedy = (
            "leave out --previous"
            if options.previous
            else f"{cluster.flags.command('why', view.run)} says what it waits for"
        )
        raise ClusterError(message, where=where, remedy=remedy, status=404, reason="NotFound")
    return found


def _check_shard(view: JobView, options: LogOptions) -> None:
    if options.shard is not None and options.shard not in view.shards:
        known = format_indexes(view.shards)
        raise ClusterError(
            f"there is no shard {options.shard}", where=f"Job {view.name}", remedy=f"it runs the shards {known}"
        )


def _several(view: JobView, options: LogOptions) -> bool:
    return options.shard is None and len(view.shards) > 1


def _read(tail: LogTail, *, ended: bool) -> Iterator[Line]:
    """A log as it is now; resumes after lost connections."""
    failing_since: float | None = None
    while True:
        try:
            for line in tail.catch_up(ended=ended):
                failing_since = None
                yield line
        except ClusterError as error:
            now = time.monotonic()
            failing_since = failing_since or now
            if error.reason != DROPPED or now - failing_since > _OUTAGE_SECONDS:
                raise
            time.sleep(_AGAIN_SECONDS)
        else:
            return
