"""A server-side dry run: what the cluster says to the Job, its ConfigMap and one of its pods, with every admission check, and keeps nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from specbatch.cluster.client.kinds import CONFIG_MAPS, JOBS, PODS, Object
from specbatch.cluster.diagnose.finding import Finding
from specbatch.cluster.diagnose.rules.admission import refusal
from specbatch.cluster.jobs.start_job import suspended
from specbatch.cluster.manifests.job import Manifests
from specbatch.errors import ClusterError

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster

# What the API server refuses of any pod; a policy or a quota may answer otherwise when the Job's own pods come.
_NEVER = {"pod-security", "priority-class-missing", "runtime-class-missing", "service-account-missing"}
_NO_DRY_RUN = "does not support dry run"


@dataclass(frozen=True, slots=True)
class DryRun:
    """What the cluster would make of it.

    Args:
        job: the Job with everything that the cluster adds.
        config_map: its ConfigMap, likewise.
        findings: what the cluster has against it.
    """

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
    job = _tried(cluster, manifests.job | {"spec": suspended(manifests.job)["spec"]}, findings)
    config_map = _tried(cluster, manifests.config_map, findings)
    if not findings:  # or it would be told twice
        _try_pod(cluster, manifests, findings)
    return DryRun(job, config_map, findings)


def _tried(cluster: Cluster, body: Object, findings: list[Finding]) -> Object:
    """The object as the cluster would keep it; as it was where that cannot be told."""
    kind = JOBS if body["kind"] == JOBS.name else CONFIG_MAPS
    subject = f"{kind.name} {body['metadata']['name']}"
    try:
        return cluster.create(kind, body, dry_run=True)
    except ClusterError as refused:
        if _NO_DRY_RUN in refused.message:
            sentence = "an admission webhook of the cluster cannot be asked without consequences"
            findings.append(Finding(cause="no-dry-run", subject=subject, sentence=sentence, severity="warning"))
        elif refused.reason == "AlreadyExists":
            # It will be gone by then (--force), or be found to be the same.
            another = {**body, "metadata": {**body["metadata"], "name": f"{body['metadata']['name']}-x"}}
            tried = _tried(cluster, another, findings)
            return {**tried, "metadata": {**tried["metadata"], "name": body["metadata"]["name"]}}
        elif refused.status in {400, 403, 422} and "not permitted to" not in refused.message:
            findings.append(replace(_refused(refused), subject=subject))
        else:
            raise
    return body


def _try_pod(cluster: Cluster, manifests: Manifests, findings: list[Finding]) -> None:
    template = manifests.job["spec"]["template"]
    metadata = {**template.get("metadata", {}), "name": f"{manifests.name}-0"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
    try:
        cluster.create(PODS, pod, dry_run=True)
    except ClusterError as refused:
        if refused.status not in {400, 403, 422} or "not permitted to" in refused.message:
            return  # nothing is learned about the pod
        found = refusal(refused.message, cluster.namespace) or _refused(refused)
        if refused.status == 422 or found.cause in _NEVER:
            findings.append(replace(found, subject="the pods"))
        elif _NO_DRY_RUN not in refused.message:
            sentence = f"one would be refused at this moment: {refused.message}"
            findings.append(replace(found, subject="the pods", sentence=sentence, severity="warning"))


def _refused(refused: ClusterError) -> Finding:
    return Finding(cause="creation-refused", sentence=refused.message, remedy=refused.remedy or "")
