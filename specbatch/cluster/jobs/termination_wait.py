"""Deleting a run's Jobs and waiting for the termination of their pods, which write the same results as a new Job."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from specbatch.cluster.client.kinds import JOBS, PODS, Kind, Object
from specbatch.cluster.jobs.job_view import JobView
from specbatch.cluster.jobs.lookup import find_jobs
from specbatch.cluster.jobs.run import config_of, uid_of
from specbatch.cluster.manifests.names import COMPONENT, CONTAINER, run_selector
from specbatch.cluster.manifests.pod_requests import ENDED
from specbatch.errors import ClusterError
from specbatch.formatting import first_lines

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster

Say = Callable[[str], None]

_POLL_SECONDS = 1.0
_LONGER_THAN_GRACE = 60.0
_GONE_SECONDS, _GONE_POLL_SECONDS = 60.0, 0.25
_SHOWN = 5


def delete_jobs(cluster: Cluster, jobs: Iterable[JobView]) -> None:
    """Deletes Jobs; the garbage collector deletes their ConfigMaps and pods."""
    for view in jobs:
        cluster.delete(JOBS, view.name, uid=uid_of(view.job))


def delete_and_wait(cluster: Cluster, kind: Kind, thing: Object, what: str, remedy: str) -> None:
    """Deletes an object, and returns when it is gone.

    Args:
        cluster: where it is.
        kind: its kind.
        thing: the object; another one of its name may take its place.
        what: it is, for the error: `Job a of an earlier fetch`.
        remedy: of the error.

    Raises:
        ClusterError: it is still there after a minute.
    """
    name, uid = _name(thing), uid_of(thing)
    cluster.delete(kind, name, uid=uid)
    until = time.monotonic() + _GONE_SECONDS
    while (left := cluster.find(kind, name)) is not None and uid_of(left) == uid:
        if time.monotonic() > until:
            raise ClusterError(f"{what} is not deleted", where=f"{kind.name} {name}, namespace {cluster.namespace}", remedy=remedy, status=400)  # fmt: skip
        time.sleep(_GONE_POLL_SECONDS)


def managed_by_helm(view: JobView) -> bool:
    """Whether Helm created a Job."""
    return view.labels.get("app.kubernetes.io/managed-by") == "Helm"


def refuse_helm_managed(cluster: Cluster, jobs: Iterable[JobView]) -> None:
    """Checks that no Job is managed by Helm.

    Raises:
        ClusterError: one is.
    """
    for view in jobs:
        if managed_by_helm(view):
            release = view.annotations.get("meta.helm.sh/release-name", view.run)
            raise ClusterError(
                f"Job {view.name} is managed by Helm",
                where=f"namespace {cluster.namespace}",
                remedy=f"helm uninstall {release} -n {cluster.namespace}",
            )


def delete_pods(cluster: Cluster, run: str, jobs: Iterable[JobView]) -> None:
    """Deletes the pods of deleted Jobs at once, without waiting for the garbage collector."""
    owners = {uid_of(view.job) for view in jobs}
    for pod in live_pods(cluster, run):
        if _owner(pod) in owners and "deletionTimestamp" not in pod["metadata"]:
            cluster.delete(PODS, _name(pod), uid=uid_of(pod))


def wait_for_termination(
    cluster: Cluster, run: str, config_sha256: str, *, seconds: float | None = None, say: Say = lambda _: None
) -> None:
    """Returns when every deleted Job of a run is gone, and every pod has ended that is not of this config.

    Args:
        cluster: where the run is.
        run: its name.
        config_sha256: pods of a Job with this config are not waited for.
        seconds: the longest wait; None for the pods' grace period and a minute.
        say: shows once what is waited for.

    Raises:
        ClusterError: it took too long.
    """
    began, shown = time.monotonic(), False
    while True:
        jobs = [JobView(job) for job in find_jobs(cluster, run)]
        leaving = [view.name for view in jobs if view.deleting]
        staying = {uid_of(view.job) for view in jobs if not view.deleting and config_of(view) == config_sha256}
        pods = [pod for pod in live_pods(cluster, run) if _owner(pod) not in staying]
        names = [*(f"Job {name}" for name in leaving), *(f"pod {_name(pod)}" for pod in pods)]
        if not names:
            return
        if time.monotonic() - began > (_grace_seconds(pods) if seconds is None else seconds):
            raise _still_there(cluster, names, pods)
        if not shown:
            say(f"waiting for {', '.join(first_lines(names, _SHOWN))} to end: it writes the same results")
            shown = True
        time.sleep(_POLL_SECONDS)


def live_pods(cluster: Cluster, run: str) -> list[Object]:
    """The pods of a run's Jobs that have not ended."""
    pods = cluster.list(PODS, labels={**run_selector(run), COMPONENT: CONTAINER})
    return [pod for pod in pods if pod.get("status", {}).get("phase") not in ENDED]


def _owner(pod: Object) -> str | None:
    owners: Sequence[Object] = pod["metadata"].get("ownerReferences") or ()
    return next((str(one["uid"]) for one in owners if one.get("controller")), None)


def _name(thing: Object) -> str:
    return str(thing["metadata"]["name"])


def _grace_seconds(pods: Iterable[Object]) -> float:
    graces = (float(pod["spec"].get("terminationGracePeriodSeconds") or 0) for pod in pods)
    return max(graces, default=0.0) + _LONGER_THAN_GRACE


def _still_there(cluster: Cluster, names: Sequence[str], pods: Sequence[Object]) -> ClusterError:
    node = next((pod["spec"]["nodeName"] for pod in pods if pod["spec"].get("nodeName")), None)
    remedy = f"look at it with {cluster.kubectl('describe', 'pod')}, or wait longer with --timeout"
    if node is not None:
        gone = cluster.kubectl("delete", "pod", _name(pods[0]), "--force")
        remedy = f"is node {node} up? When it is gone for good: {gone}"
    return ClusterError(
        f"still there: {', '.join(first_lines(names, _SHOWN))}; nothing new is started before, because it writes the same results",
        where=f"namespace {cluster.namespace}",
        remedy=remedy,
        reason="Timeout",
    )
