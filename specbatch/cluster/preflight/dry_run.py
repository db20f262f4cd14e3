"""A server-side dry run: what the cluster says to the Job, its ConfigMap and one of its pods, with every admission check, and keeps nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from specbatch.cluster.client.kinds import CONFIG_MAPS, JOBS, PODS, Kind, Object
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Finding, Said
from specbatch.cluster.diagnose.rules.admission import refusal
from specbatch.cluster.diagnose.table import check_manifest
from specbatch.cluster.jobs.job_view import JobView
from specbatch.cluster.jobs.start_job import suspended
from specbatch.cluster.manifests.job import Manifests
from specbatch.errors import ClusterError

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster

# A policy may answer otherwise when the Job's own pods come.
_UNSURE = {"admission-denied", "admission-unreachable", "creation-refused"}
_NO_DRY_RUN = "does not support dry run"


class DryRun(NamedTuple):
    """A Job and its ConfigMap with everything that the cluster adds, and what it has against them."""

    job: Object
    config_map: Object
    findings: list[Finding]


def dry_run(cluster: Cluster, manifests: Manifests) -> DryRun:
    """Asks the cluster, with strict validation of fields.

    A pod is tried too, where pods may be created: a Job whose pods are refused is accepted, and never starts any.

    Raises:
        ClusterError: the rights or the namespace are missing.
    """
    findings: list[Finding] = []
    job = _tried(cluster, JOBS, manifests.job | {"spec": suspended(manifests.job)["spec"]}, findings)
    config_map = _tried(cluster, CONFIG_MAPS, manifests.config_map, findings)
    if not findings:  # or it would be told twice
        findings += check_manifest(Evidence(cluster, JobView(manifests.job)), POD)
    return DryRun(job, config_map, findings)


def try_pod(evidence: Evidence, pod: Object) -> Iterator[Finding]:
    """What the cluster would say to a pod; nothing where pods may not be created."""
    try:
        evidence.cluster.create(PODS, pod, dry_run=True)
    except ClusterError as refused:
        if not _about_the_object(refused) or _NO_DRY_RUN in refused.message:
            return  # nothing is learned about the pod
        found = refusal(evidence, Said(refused.message)) or _refused(refused)
        if refused.status == 422 or found.cause not in _UNSURE:
            yield found
        else:
            said = f"one would be refused at this moment: {refused.message}"
            yield replace(found, sentence=said, severity="warning")


POD = (("the pods", try_pod),)
"""As a rule among others."""


def _tried(cluster: Cluster, kind: Kind, body: Object, findings: list[Finding]) -> Object:
    """The object as the cluster would keep it; as it was where that cannot be told."""
    try:
        return cluster.create(kind, body, dry_run=True)
    except ClusterError as refused:
        if _NO_DRY_RUN in refused.message:
            said = "an admission webhook of the cluster cannot be asked without consequences"
            findings.append(Finding(cause="no-dry-run", subject=kind.name, sentence=said, severity="warning"))
        elif refused.reason == "AlreadyExists":
            # It will be gone by then (--force), or be found to be the same.
            another = {**body, "metadata": {**body["metadata"], "name": f"{body['metadata']['name']}-x"}}
            tried = _tried(cluster, kind, another, findings)
            return {**tried, "metadata": {**tried["metadata"], "name": body["metadata"]["name"]}}
        elif _about_the_object(refused):
            findings.append(replace(_refused(refused), subject=f"{kind.name} {body['metadata']['name']}"))
        else:
            raise
    return body


def _about_the_object(refused: ClusterError) -> bool:
    """Whether the cluster has something against the object, and not against who creates it."""
    return refused.status in {400, 403, 422} and "not permitted to" not in refused.message


def _refused(refused: ClusterError) -> Finding:
    return Finding(cause="creation-refused", sentence=refused.message, remedy=refused.remedy or "")
