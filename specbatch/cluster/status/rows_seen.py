"""What the pods of a Job told of their rows before they were stopped: kept on the Job, because a suspended Job has no pods to ask."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from specbatch.cluster.client.kinds import JOBS, PODS, Object
from specbatch.cluster.jobs.job_view import JOB_NAME, JobView, pod_index
from specbatch.cluster.jobs.lookup import find_job
from specbatch.cluster.jobs.run import uid_of
from specbatch.cluster.manifests.names import SEEN
from specbatch.cluster.status.pod_state import has_ended, last_word
from specbatch.cluster.status.read_run import read_run
from specbatch.errors import ClusterError

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster

_SECONDS = 60.0


def stop(
    cluster: Cluster,
    name: str | None,
    action: Callable[[Cluster, Object], str],
    *,
    tell: Callable[[str], None],
    say: Callable[[str], None],
    seconds: float = _SECONDS,
) -> None:
    """Stops a run's newest Job, waits for its pods, and keeps what they told on the Job. Nothing depends on the latter: it may not be allowed.

    Args:
        cluster: where it is.
        name: what a person calls it.
        action: `actions.cancel` or `actions.suspend`.
        tell: gets the sentence about what was done.
        say: is told what is waited for.
        seconds: to wait, at most.

    Raises:
        ClusterError: as the action does.
    """
    job = find_job(cluster, name)
    view, known = JobView(job), dict[int, Mapping[str, int]]()
    stops = not view.suspended and view.outcome is None
    if stops:
        with contextlib.suppress(ClusterError):
            known = {one.shard: one.told for one in read_run(cluster, view.name, time.time()).shards if one.told}
    tell(action(cluster, job))
    if stops:
        with contextlib.suppress(ClusterError, KeyboardInterrupt):
            _keep(cluster, view, known, time.monotonic() + seconds, say)


def _keep(
    cluster: Cluster, view: JobView, known: dict[int, Mapping[str, int]], deadline: float, say: Callable[[str], None]
) -> None:
    there = {uid_of(pod): pod for pod in _pods(cluster, view)}
    live = sum(not has_ended(pod) for pod in there.values())
    if live:
        say(f"waiting for {live} pod{'s' * (live > 1)} to save what {'they have' if live > 1 else 'it has'}")
    try:
        for pod in _ends(cluster, view, there, deadline):
            word, index = last_word(pod), pod_index(pod)
            if word is not None and word.rows is not None and index is not None and index < len(view.shards):
                known[view.shards[index]] = {**word.counts, "ended": 1}
    finally:  # also when a person does not wait
        if known:
            body = {"metadata": {"uid": uid_of(view.job), "annotations": {SEEN: _text(known)}}}
            cluster.patch(JOBS, view.name, body)


def _ends(cluster: Cluster, view: JobView, there: dict[str, Object], deadline: float) -> Iterator[Object]:
    """Pods as they end or are gone, until all have or the time is up."""
    waiting = {uid for uid, pod in there.items() if not has_ended(pod)}
    yield from (pod for uid, pod in there.items() if uid not in waiting)
    while waiting and (left := deadline - time.monotonic()) > 0:
        for change, pod in cluster.watch(PODS, labels={JOB_NAME: view.name}, seconds=min(left, 5.0)):
            if has_ended(pod) or change == "DELETED":
                yield pod
                waiting.discard(uid_of(pod))
            if not waiting:
                return
        waiting &= {
            uid_of(pod) for pod in _pods(cluster, view)
        }  # a watch tells nothing of what was gone before it began


def _pods(cluster: Cluster, view: JobView) -> list[Object]:
    return cluster.list(PODS, labels={JOB_NAME: view.name})


def _text(seen: Mapping[int, Mapping[str, int]]) -> str:
    return json.dumps({str(shard): dict(counts) for shard, counts in sorted(seen.items())})
