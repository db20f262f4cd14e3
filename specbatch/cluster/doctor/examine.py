"""All checks in their order. A refusal ends one check, and never the others; where the API server does not answer, no other is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from specbatch.api.job import SpecBatchJob
from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Finding
from specbatch.cluster.diagnose.manifest import check_manifest, unchecked
from specbatch.cluster.diagnose.table import OF_A_MANIFEST, OF_A_NAMESPACE
from specbatch.cluster.doctor import inventory, server
from specbatch.cluster.jobs.job_view import JobView
from specbatch.cluster.manifests.names import CONTAINER, QUEUE, object_labels
from specbatch.cluster.manifests.pod import pod_template
from specbatch.errors import ClusterError

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster

_USUAL_CLAIMS = ("specbatch-results", "specbatch-models")  # those of k8s/ and of the examples
_NAME = "specbatch-doctor"


def examine(cluster: Cluster, job: SpecBatchJob | None = None) -> list[Finding]:
    """What every check found.

    Args:
        cluster: and its namespace.
        job: the spec that is to run there; without one a pod with one GPU and the usual claims stands for it.
    """
    evidence = Evidence(cluster, JobView(_typical_job() if job is None else _job(job)))
    found = [*_tried("versions", lambda: server.versions(evidence)), *_tried("api", lambda: server.api(cluster))]
    if any(one.subject == "api" and one.severity == "error" for one in found):
        return [*found, _not_made("all other checks", "the API server does not answer")]
    found += _tried("clock", lambda: server.clock(cluster))
    found += _tried("permissions", lambda: server.permissions(cluster, evidence))
    described: list[Finding] = []
    for subject, describe in inventory.PARTS.items():
        described += _tried(subject, lambda describe=describe: describe(evidence))  # type: ignore[misc]  # mypy cannot infer lambdas with defaults
    if job is None and evidence.claims and not any(name in evidence.claims for name in _USUAL_CLAIMS):
        evidence.view.job["spec"]["template"]["spec"]["volumes"] = []  # the namespace has claims of its own
    problems: list[Finding] = []
    for subject, rule in (*OF_A_NAMESPACE, *OF_A_MANIFEST):
        checked = _tried(subject, lambda one=(subject, rule): iter(check_manifest(evidence, [one])))  # type: ignore[misc]  # as above
        problems += [_severe(finding, spec=job is not None) for finding in checked]
    wrong = {finding.subject for finding in problems} - {"nodes"}
    found += [one for one in described if one.severity != "ok" or one.subject not in wrong]
    found += problems
    if job is not None and not failed(problems):
        found.append(
            Finding(
                cause="spec",
                subject="spec",
                sentence=f"{job.metadata.name}: everything that its pods name is there",
                severity="ok",
            )
        )
    return [*found, *unchecked(evidence)]


def failed(findings: Sequence[Finding]) -> bool:
    """Whether anything keeps runs from working."""
    return any(finding.severity == "error" for finding in findings)


def _tried(subject: str, check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    try:
        return [finding if finding.subject else replace(finding, subject=subject) for finding in check()]
    except ClusterError as error:
        if error.status == 403:
            return [_not_made(subject, "not permitted to look")]
        return [Finding(cause="api-error", subject=subject, sentence=error.message, remedy=error.remedy or "")]


def _not_made(subject: str, why: str) -> Finding:
    return Finding(cause="not-checked", subject=subject, sentence=why, severity="unchecked")


def _severe(finding: Finding, *, spec: bool) -> Finding:
    """A claim that nobody asked for may be missing; GPUs that a spec asks for may not."""
    if finding.cause == "no-nodes" or (finding.cause == "gpu-resource-unknown" and spec):
        return replace(finding, severity="error")
    return replace(finding, severity="warning") if finding.cause == "claim-missing" and not spec else finding


def _job(job: SpecBatchJob) -> Object:
    section = job.spec.job
    labels = object_labels(job) | ({QUEUE: section.queue_name} if section.queue_name else {})
    spec = {
        "completions": section.completions,
        "parallelism": section.parallelism,
        "template": pod_template(job, _NAME),
    }
    return {"metadata": {"name": _NAME, "labels": labels}, "spec": spec}


def _typical_job() -> Object:
    gpu = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    pod = {
        "containers": [{"name": CONTAINER, "resources": {"limits": {"nvidia.com/gpu": "1"}}}],
        "tolerations": [gpu],
        "volumes": [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in _USUAL_CLAIMS],
    }
    return {"metadata": {"name": _NAME}, "spec": {"completions": 1, "template": {"spec": pod}}}
