"""All checks in their order. A refusal ends one check, and never the others; where the API server does not answer, no other is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from specbatch.api.job import SpecBatchJob
from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Finding
from specbatch.cluster.diagnose.manifest import check_manifest, unchecked
from specbatch.cluster.diagnose.table import OF_A_MANIFEST, OF_A_NAMESPACE, Rule
from specbatch.cluster.doctor import inventory, server
from specbatch.cluster.jobs.job_view import JobView
from specbatch.cluster.manifests.job import resolved
from specbatch.cluster.manifests.names import CONTAINER, QUEUE, object_labels
from specbatch.cluster.manifests.pod import pod_template
from specbatch.errors import ClusterError

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster

_NAME = "specbatch-doctor"
_SERVER: Sequence[tuple[str, Rule]] = (("versions", server.versions), ("api", server.api))
_CHECKS: Sequence[tuple[str, Rule]] = (
    ("clock", server.clock),
    ("permissions", server.permissions),
    ("namespace", inventory.namespace),
    ("nodes", inventory.nodes),
    ("gpus", inventory.gpus),
    ("storage classes", inventory.classes),
    ("claims", inventory.claims),
    ("quotas", inventory.quotas),
    ("queues", inventory.queues),
    ("image", inventory.image),
    *OF_A_NAMESPACE,
    *OF_A_MANIFEST,
)


def examine(cluster: Cluster, job: SpecBatchJob | None = None) -> list[Finding]:
    """What every check found.

    Args:
        cluster: and its namespace.
        job: the spec that is to run there; without one a pod with one GPU and the usual claims stands for it.
    """
    evidence = Evidence(cluster, JobView(_typical_job() if job is None else _job(job)))
    if job is not None:
        evidence.spec = resolved(job)["spec"]
    found = [finding for check in _SERVER for finding in _made(evidence, *check)]
    if any(finding.cause == "api-error" for finding in found):
        why = "the API server does not answer"
        return [*found, *(server.found(subject, why, severity="unchecked") for subject, _ in _CHECKS)]
    if job is None and evidence.claims and not set(inventory.USUAL_CLAIMS) & set(evidence.claims):
        evidence.view.job["spec"]["template"]["spec"]["volumes"] = []  # the namespace has claims of its own
    for check in _CHECKS:
        found += [_severe(finding, spec=job is not None) for finding in _made(evidence, *check)]
    if job is not None and not failed(found):
        found.append(server.found("spec", f"{job.metadata.name}: everything that its pods name is there"))
    return [*found, *unchecked(evidence)]


def failed(findings: Sequence[Finding]) -> bool:
    """Whether anything keeps runs from working."""
    return any(finding.severity == "error" for finding in findings)


def _made(evidence: Evidence, subject: str, rule: Rule) -> list[Finding]:
    try:
        return check_manifest(evidence, [(subject, rule)])
    except ClusterError as error:
        return [Finding(cause="api-error", subject=subject, sentence=error.message, remedy=error.remedy or "")]


def _severe(finding: Finding, *, spec: bool) -> Finding:
    """A claim that nobody asked for may be missing; GPUs that a spec asks for may not."""
    if finding.cause == "no-nodes" or (finding.cause == "gpu-resource-unknown" and spec):
        return replace(finding, severity="error")
    return replace(finding, severity="warning") if finding.cause == "claim-missing" and not spec else finding


def _job(job: SpecBatchJob) -> Object:
    section = job.spec.job
    labels = object_labels(job) | ({QUEUE: section.queue_name} if section.queue_name else {})
    counts = {"completions": section.completions, "parallelism": section.parallelism}
    return {"metadata": {"name": _NAME, "labels": labels}, "spec": {**counts, "template": pod_template(job, _NAME)}}


def _typical_job() -> Object:
    pod = {
        "containers": [{"name": CONTAINER, "resources": {"limits": {"nvidia.com/gpu": "1"}}}],
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "volumes": [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in inventory.USUAL_CLAIMS],
    }
    return {"metadata": {"name": _NAME}, "spec": {"completions": 1, "template": {"spec": pod}}}
