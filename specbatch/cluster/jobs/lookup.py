"""Finding Jobs by the name of a run or of a Job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from specbatch.api.hints.nearest import nearest
from specbatch.cluster.client.kinds import JOBS, PODS, Object
from specbatch.cluster.jobs.job_view import JOB_NAME, JobView
from specbatch.cluster.jobs.run import Run, age_key, group_into_runs
from specbatch.cluster.manifests.names import COMPONENT, CONTAINER, RUN, run_selector
from specbatch.errors import ClusterError

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster

_ALL = {"app.kubernetes.io/name": "specbatch", COMPONENT: CONTAINER}  # not those that fetch models
_NAMES_SHOWN = 5


def find_jobs(cluster: Cluster, run: str | None = None, *, all_namespaces: bool = False) -> list[Object]:
    """The Jobs of a run, or all of specbatch's, in the namespace or in all namespaces; the newest first."""
    found = cluster.list(JOBS, labels=_ALL if run is None else run_selector(run), all_namespaces=all_namespaces)
    return sorted(found, key=lambda job: age_key(JobView(job)), reverse=True)


def find_job(cluster: Cluster, name: str | None = None) -> Object:
    """One Job.

    Args:
        cluster: where to look.
        name: of a run (its newest Job is meant) or of a Job; None for the newest Job of the namespace.

    Raises:
        ClusterError: there is none; its status is 404.
    """
    jobs = find_jobs(cluster, name)
    if not jobs and name is not None:
        job = cluster.find(JOBS, name)
        jobs = [] if job is None or RUN not in (job["metadata"].get("labels") or {}) else [job]
    if not jobs:
        raise _no_job(cluster, name)
    return jobs[0]


def find_run(cluster: Cluster, view: JobView) -> Run:
    """The run that a Job belongs to, with its newer and older Jobs."""
    runs = group_into_runs(find_jobs(cluster, view.run))
    return next((run for run in runs if view.name in {job.name for job in run.jobs}), Run([view]))


def job_with_pods(cluster: Cluster, job: Object) -> JobView:
    """A Job with its pods."""
    return JobView(job, cluster.list(PODS, labels={JOB_NAME: job["metadata"]["name"]}))


def _no_job(cluster: Cluster, name: str | None) -> ClusterError:
    where = f"namespace {cluster.namespace}"
    if name is None:
        return ClusterError(
            "there is no Job of specbatch", where=where, remedy="specbatch submit FILE makes one; -n names another namespace", status=404, reason="NotFound"
        )  # fmt: skip
    runs = list(dict.fromkeys(str(job["metadata"]["labels"].get(RUN)) for job in find_jobs(cluster)))
    guess = nearest(name, dict.fromkeys(runs, ""))
    known = f"there are {', '.join(runs[:_NAMES_SHOWN])}{', ...' if len(runs) > _NAMES_SHOWN else ''}" if runs else ""
    remedy = (
        f"did you mean {guess}?" if guess else known or "specbatch submit FILE makes one; -n names another namespace"
    )
    return ClusterError(
        f"there is no run and no Job named {name}", where=where, remedy=remedy, status=404, reason="NotFound"
    )
