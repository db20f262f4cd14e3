"""Creating and starting a Job in steps; after a crash at any step the next call completes the rest.

First the Job, suspended, so that no pod starts. Then the ConfigMap, owned by the Job, so that deleting the Job deletes both. Then one patch that
resumes the Job and records that in an annotation; from then on a user or Kueue sets `suspend`. Names are made from the content, so two
submits of the same spec at once find the same Job.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from specbatch.cluster.client.kinds import CONFIG_MAPS, JOBS, Object
from specbatch.cluster.jobs.job_view import JobView
from specbatch.cluster.jobs.lookup import find_jobs
from specbatch.cluster.jobs.run import config_of, labels_of, uid_of
from specbatch.cluster.manifests.job import Manifests
from specbatch.cluster.manifests.names import QUEUE, RUN, SUBMITTED
from specbatch.errors import ClusterError

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster

_TRIES = 25
_PAUSE_SECONDS = 0.2
_REPEAT = "repeat the command: it goes on from there"


def start_job(cluster: Cluster, manifests: Manifests) -> Object:
    """Creates and starts the Job of these manifests, or finds the one that somebody else has just created.

    Raises:
        ClusterError: another Job of the run was created at the same moment, or the name is taken.
    """
    try:
        job = cluster.create(JOBS, suspended(manifests.job))
    except ClusterError as error:
        if error.reason != "AlreadyExists":
            raise
        job = cluster.get(JOBS, manifests.name)
    if config_of(JobView(job)) != manifests.config_sha256:
        raise ClusterError(
            f"Job {manifests.name} exists already, and is not of this spec",
            where=f"namespace {cluster.namespace}",
            remedy="take another --name, or delete it",
            reason="AlreadyExists",
        )
    return complete_start(cluster, job, manifests.config_map)


def complete_start(cluster: Cluster, job: Object, config_map: Object) -> Object:
    """Takes the steps that are still missing; returns the Job as it is then.

    Args:
        cluster: where the Job is.
        job: the Job, suspended if it was not started yet.
        config_map: its ConfigMap; renamed to the Job's name.
    """
    view = JobView(job)
    if not view.submitted:
        _withdraw_before_rivals(cluster, view)
    _configure(cluster, job, config_map)
    return _release(cluster, view)


def suspended(job: Object) -> Object:
    """A Job as it is created: no pod starts before its ConfigMap exists."""
    return {**job, "spec": {"suspend": True, **job["spec"]}}


def _withdraw_before_rivals(cluster: Cluster, view: JobView) -> None:
    """Deletes the Job where a different spec was submitted under the same name at once: both would write the same results."""
    others = (JobView(other) for other in find_jobs(cluster, view.run))
    rivals = [one for one in others if config_of(one) != config_of(view) and not one.deleting and not one.outcome]
    if rivals:
        cluster.delete(JOBS, view.name, uid=uid_of(view.job))
        raise ClusterError(
            f"another spec was submitted under the name {view.run} at this moment, as Job {rivals[0].name}",
            where=f"namespace {cluster.namespace}",
            remedy="take another --name; or repeat the command with --force, which ends that one",
            reason="Conflict",
        )


def _configure(cluster: Cluster, job: Object, wanted: Object) -> None:
    """Creates the Job's ConfigMap. One that an earlier Job of the same name owned is about to be garbage-collected: it is replaced."""
    body = _owned(wanted, job)
    name = body["metadata"]["name"]
    for _ in range(_TRIES):
        try:
            found = cluster.find(CONFIG_MAPS, name)
            if found is None:
                cluster.create(CONFIG_MAPS, body)
                return
            if "deletionTimestamp" not in found["metadata"] and _settled(cluster, found, body):
                return
        except ClusterError as error:
            if error.status not in {404, 409}:  # somebody does the same: read it again
                raise
        time.sleep(_PAUSE_SECONDS)
    raise ClusterError(
        f"ConfigMap {name} cannot be replaced: it has another owner, or is being deleted",
        where=f"namespace {cluster.namespace}",
        remedy=_REPEAT,
    )


def _settled(cluster: Cluster, found: Object, body: Object) -> bool:
    """Whether an existing ConfigMap is the Job's, or was adopted. If not, it is deleted where it is specbatch's."""
    metadata = found["metadata"]
    owners = metadata.get("ownerReferences") or []
    owner = next((one for one in owners if one.get("controller")), None)
    mine = body["metadata"]["ownerReferences"][0]
    same = all(found.get(part) == body.get(part) for part in ("data", "binaryData"))
    if same and owner is not None and owner["uid"] == mine["uid"]:
        return True
    if same and owner is None:  # kubectl apply made it
        version = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
        cluster.patch(CONFIG_MAPS, metadata["name"], {"metadata": {**version, "ownerReferences": [*owners, mine]}})
        return True
    if RUN not in labels_of(found):
        raise ClusterError(
            f"ConfigMap {metadata['name']} exists already, and is not specbatch's",
            where=f"namespace {cluster.namespace}",
            remedy="delete it, or take another --name",
            reason="AlreadyExists",
        )
    cluster.delete(CONFIG_MAPS, metadata["name"], uid=metadata["uid"])
    return False


def _owned(config_map: Object, job: Object) -> Object:
    """With the Job as its controller.

    blockOwnerDeletion is false: it matters to foreground deletion only, and clusters that check it (OpenShift) require a permission on
    jobs/finalizers.
    """
    owner = {
        "apiVersion": JOBS.api_version,
        "kind": JOBS.name,
        "name": job["metadata"]["name"],
        "uid": uid_of(job),
        "controller": True,
        "blockOwnerDeletion": False,
    }
    metadata = {**config_map["metadata"], "name": job["metadata"]["name"], "ownerReferences": [owner]}
    return {**config_map, "metadata": metadata}


def _release(cluster: Cluster, view: JobView) -> Object:
    """Resumes a Job that was never started, and records that. A Job of Kueue is resumed by Kueue."""
    if SUBMITTED in view.annotations:
        return view.job
    body: Object = {"metadata": {"uid": uid_of(view.job), "annotations": {SUBMITTED: "true"}}}
    if view.suspended and QUEUE not in view.labels:
        body["spec"] = {"suspend": False}
    return cluster.patch(JOBS, view.name, body)
