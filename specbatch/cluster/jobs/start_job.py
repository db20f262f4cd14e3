"""A Job started in steps of which each may be the last one taken: whoever comes next finds what is missing, and does it.

The Job comes first, suspended: no pod can start. Then the ConfigMap, owned by it: deleting the Job deletes both. Then, in one patch, the Job is
resumed and says so in an annotation; from then on `suspend` is a person's wish, or Kueue's. Names are made from the content, so two
who start the same thing at once meet in the same Job.
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
_TRY_AGAIN = "repeat the command: it goes on from there"


def start(cluster: Cluster, manifests: Manifests) -> Object:
    """The Job of these manifests, started: created, or found where somebody was faster.

    Raises:
        ClusterError: another Job of the run was created at the same moment, or the name is taken by something else.
    """
    try:
        job = cluster.create(JOBS, suspended(manifests.job))
    except ClusterError as error:
        if error.reason != "AlreadyExists":
            raise
        job = cluster.get(JOBS, manifests.name)
    if config_of(JobView(job)) != manifests.config_sha256:
        raise ClusterError(
            f"Job {manifests.name} is there already, and not of this spec",
            where=f"namespace {cluster.namespace}",
            remedy="take another --name, or delete it",
            reason="AlreadyExists",
        )
    return complete_start(cluster, job, manifests.config_map)


def complete_start(cluster: Cluster, job: Object, config_map: Object) -> Object:
    """Takes the steps that are still missing; the Job as it is then.

    Args:
        cluster: where the Job is.
        job: the Job, suspended if it was not started yet.
        config_map: what its ConfigMap holds; the Job's name goes over its own.
    """
    view = JobView(job)
    if not view.submitted:
        _withdraw_before_rivals(cluster, view)
    _configure(cluster, job, config_map)
    return _release(cluster, view)


def suspended(job: Object) -> Object:
    """A Job as it is created: no pod starts before its ConfigMap is there."""
    return {**job, "spec": {"suspend": True, **job["spec"]}}


def _withdraw_before_rivals(cluster: Cluster, view: JobView) -> None:
    """Two different specs under one name, submitted at once, would write the same results: both withdraw."""
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
    """Makes sure of the Job's ConfigMap. One that an earlier Job of the same name left is about to be collected: it is replaced."""
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
            if error.status not in {404, 409}:  # somebody does the same: look again
                raise
        time.sleep(_PAUSE_SECONDS)
    raise ClusterError(
        f"ConfigMap {name} stays as it is: another owner, or on its way out",
        where=f"namespace {cluster.namespace}",
        remedy=_TRY_AGAIN,
    )


def _settled(cluster: Cluster, found: Object, body: Object) -> bool:
    """Whether a ConfigMap that is there is the Job's, or was made so. If not, it is deleted where that is ours to do."""
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
            f"ConfigMap {metadata['name']} is there already, and not specbatch's",
            where=f"namespace {cluster.namespace}",
            remedy="delete it, or take another --name",
            reason="AlreadyExists",
        )
    cluster.delete(CONFIG_MAPS, metadata["name"], uid=metadata["uid"])
    return False


def _owned(config_map: Object, job: Object) -> Object:
    """With the Job as its controller.

    It does not block the owner's deletion: that would only matter to foreground deletion, and clusters that check it (OpenShift does)
    ask for a right on jobs/finalizers that nobody needs otherwise.
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
    """Resumes a Job that never was, and says so. One that Kueue has is Kueue's to resume."""
    if SUBMITTED in view.annotations:
        return view.job
    body: Object = {"metadata": {"uid": uid_of(view.job), "annotations": {SUBMITTED: "true"}}}
    if view.suspended and QUEUE not in view.labels:
        body["spec"] = {"suspend": False}
    return cluster.patch(JOBS, view.name, body)
