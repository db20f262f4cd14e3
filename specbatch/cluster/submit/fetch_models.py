"""Starting the Job that fetches a spec's models, or attaching to the one that does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from specbatch.cluster.client.kinds import CLAIMS, JOBS, Object
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Finding
from specbatch.cluster.diagnose.table import BEFORE_A_FETCH, check_manifest
from specbatch.cluster.jobs.job_view import JobView
from specbatch.cluster.jobs.termination_wait import delete_and_wait
from specbatch.cluster.preflight.checks import stop_at_errors
from specbatch.cluster.preflight.dry_run import POD
from specbatch.cluster.preflight.permissions import Uses, check_permissions
from specbatch.errors import ClusterError

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster

_OF_MANY_NODES = {"ReadWriteMany", "ReadOnlyMany"}


def check_fetch(cluster: Cluster, body: Object) -> list[Finding]:
    """What the cluster lacks for the Job; warnings are returned.

    Raises:
        RefusedError: something keeps it from running.
    """
    evidence = Evidence(cluster, JobView(body), spec={})
    found = [
        *check_permissions(cluster, Uses(follow=True, force=True).needed),
        *check_manifest(evidence, (*BEFORE_A_FETCH, *POD)),
    ]
    found += _volume_follows_pod(evidence)
    stop_at_errors(found, where=f"namespace {cluster.namespace}")
    return [finding for finding in found if finding.severity == "warning"]


def _volume_follows_pod(evidence: Evidence) -> Iterator[Finding]:
    """A volume of one node is made where its first pod runs: if that node has no GPU, no pod of the run can ever use it."""
    spec = evidence.view.job["spec"]["template"]["spec"]
    if spec.get("nodeSelector") or spec.get("affinity") or len(evidence.nodes or ("one", "another")) == 1:
        return
    for volume in spec["volumes"]:
        name = (volume.get("persistentVolumeClaim") or {}).get("claimName", "")
        claim = evidence.by_name(CLAIMS).get(name)
        unbound = claim is not None and (claim.get("status") or {}).get("phase") != "Bound"
        if claim is not None and unbound and not _OF_MANY_NODES & set(claim["spec"].get("accessModes") or ()):
            yield Finding(
                cause="volume-follows-pod",
                subject=f"claim {name}",
                sentence="its volume is made on the node where this Job happens to run, and one node at a time can use it",
                remedy="name the node with the GPU: job.nodeSelector: {kubernetes.io/hostname: NODE}",
                severity="warning",
            )


def start_fetch(cluster: Cluster, body: Object) -> tuple[Object, Literal["created", "attached"]]:
    """The running Job of these models. One that has ended is made anew: nobody knows what has become of the claim since.

    Raises:
        ClusterError: the cluster refuses.
    """
    name = body["metadata"]["name"]
    found = cluster.find(JOBS, name)
    if found is not None and JobView(found).outcome is None and not JobView(found).deleting:
        return found, "attached"
    if found is not None:
        again = "wait until it is gone, and repeat the command"
        delete_and_wait(cluster, JOBS, found, f"Job {name} of an earlier fetch", again)
    try:
        return cluster.create(JOBS, body), "created"
    except ClusterError as error:
        if error.reason != "AlreadyExists":
            raise
        return cluster.get(JOBS, name), "attached"  # somebody else's, of this moment
