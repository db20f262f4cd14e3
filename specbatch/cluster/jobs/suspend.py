"""Suspend, resume and cancel. Each returns a sentence about what it did, and is idempotent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from specbatch.cluster.client.kinds import JOBS, Object
from specbatch.cluster.client.kueue import JOB_UID
from specbatch.cluster.jobs.job_view import JobView
from specbatch.cluster.jobs.run import state_of, uid_of
from specbatch.cluster.manifests.names import CANCELLED, SUBMITTED
from specbatch.errors import ClusterError

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster

_ENDED = {"complete", "failed"}
_SAVED = "its pods save what they have and end"


def suspend(cluster: Cluster, job: Object) -> str:
    """Stops a Job's pods until `resume`; they save their rows. Returns a sentence about what was done.

    Raises:
        ClusterError: the Job is managed by Kueue.
    """
    view = JobView(job)
    state = state_of(view)
    if state in _ENDED or state == "deleting":
        return f"nothing to suspend: Job {view.name} is {_now(state)}"
    _refuse_kueues(cluster, view, "suspend", "false")
    if view.suspended and view.submitted:
        return f"Job {view.name} is suspended already"
    _patch(cluster, view, {SUBMITTED: "true"}, {"suspend": True})
    return f"suspended Job {view.name}: {_SAVED}; {cluster.flags.command('resume', view.run)} goes on"


def resume(cluster: Cluster, job: Object) -> str:
    """Resumes a suspended or cancelled Job. Returns a sentence about what was done.

    Raises:
        ClusterError: the Job is managed by Kueue, was never completely submitted, or has failed.
    """
    view = JobView(job)
    state = state_of(view)
    if view.outcome == "failed":
        remedy = f"{cluster.flags.command('retry', view.run)} starts a Job for the shards that are not done"
        raise ClusterError(f"Job {view.name} has {_now(state)}: it cannot be resumed", remedy=remedy)
    if state in {"complete", "deleting"}:
        return f"nothing to resume: Job {view.name} is {_now(state)}"
    if state == "not started":
        remedy = "repeat specbatch submit with the same file: it does what is missing"
        raise ClusterError(f"Job {view.name} was never completely submitted", remedy=remedy)
    if not view.suspended and CANCELLED not in view.annotations:
        return f"Job {view.name} is not suspended"
    _refuse_kueues(cluster, view, "resume", "true")
    _patch(cluster, view, {SUBMITTED: "true", CANCELLED: None}, {"suspend": False})
    return f"resumed Job {view.name}: it goes on with the rows that are not finished"


def cancel(cluster: Cluster, job: Object) -> str:
    """Ends a Job and keeps the Job object. Returns a sentence about what was done.

    The Job is suspended and marked as cancelled: `resume` undoes it, `submit --force` and `delete` replace and delete it. A Job of
    Kueue, which alone may suspend it, gets a deadline of one second instead: it fails, and `retry` goes on with it.
    """
    view = JobView(job)
    state = state_of(view)
    if state in {*_ENDED, "deleting"} or (state == "cancelled" and (view.suspended or view.outcome)):
        return f"nothing to cancel: Job {view.name} is {_now(state)}"
    if view.queue is not None:
        _patch(cluster, view, {SUBMITTED: "true", CANCELLED: "true"}, {"activeDeadlineSeconds": 1})
        if view.suspended:
            return (
                f"cancelled Job {view.name}: it ends as soon as queue {view.queue} admits it; "
                f"{cluster.flags.command('delete', view.run)} takes it out of the queue now"
            )
        return f"cancelled Job {view.name}: {_SAVED}; {cluster.flags.command('retry', view.run)} goes on"
    _patch(cluster, view, {SUBMITTED: "true", CANCELLED: "true"}, {"suspend": True})
    return f"cancelled Job {view.name}: {_SAVED}; {cluster.flags.command('resume', view.run)} goes on, {cluster.flags.command('delete', view.run)} removes it"


def _patch(cluster: Cluster, view: JobView, annotations: Object, spec: Object) -> None:
    body = {"metadata": {"uid": uid_of(view.job), "annotations": annotations}, "spec": spec}
    cluster.patch(JOBS, view.name, body)


def _refuse_kueues(cluster: Cluster, view: JobView, verb: str, active: str) -> None:
    """Refuses for a Job of Kueue, which would undo the change at once."""
    if view.queue is not None:
        selector = f"{JOB_UID}={uid_of(view.job)}"
        patch = f'{{"spec": {{"active": {active}}}}}'
        find = cluster.kubectl("get", "workloads", "-l", selector, "-o", "name")
        raise ClusterError(
            f"Job {view.name} is Kueue's (queue {view.queue}): Kueue alone may {verb} it",
            remedy=f"{cluster.kubectl('patch', '--type', 'merge', '-p', patch)} $({find})",
        )


def _now(state: str) -> str:
    return {"deleting": "being deleted"}.get(state, state)
