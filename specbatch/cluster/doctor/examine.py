"""All checks in their order. A refusal ends one check, and never the others; where the API server does not answer, no other is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING

from specbatch.api.job import SpecBatchJob
from specbatch.api.loading.parsing import parse_spec
from specbatch.api.starter import starter
from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Finding
from specbatch.cluster.diagnose.table import OF_A_MANIFEST, Rule, check_manifest, unchecked
from specbatch.cluster.doctor.inventory import LOOKS, found, server
from specbatch.cluster.jobs.job_view import JobView
from specbatch.cluster.manifests.job import resolved
from specbatch.cluster.manifests.names import QUEUE, object_labels
from specbatch.cluster.manifests.pod import pod_template
from specbatch.cluster.preflight.dry_run import POD
from specbatch.errors import ClusterError

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster

_NAME = "specbatch-doctor"
# What is added to the spec of `specbatch init`, which stands for the one that is to come: a GPU, and the other claim of k8s/.
_TYPICAL = ("placement.gpus=1", "job.volumes.modelCache.claimName=specbatch-models")
_CHECKS: Sequence[tuple[str, Rule]] = (*LOOKS, *POD, *OF_A_MANIFEST)


def examine(cluster: Cluster, job: SpecBatchJob | None = None) -> list[Finding]:
    """What every check found.

    Args:
        cluster: and its namespace.
        job: the spec that is to run there; without one a typical one stands for it.
    """
    spec = job or parse_spec(starter(PurePath(_NAME)), _NAME, _TYPICAL)
    evidence = Evidence(cluster, JobView(_job(spec)), spec=resolved(spec)["spec"])
    results = _made(evidence, "api", server)
    if results[-1].cause == "api-error":
        why = "the API server does not answer"
        return [*results, *(found(subject, why, severity="unchecked") for subject, _ in _CHECKS)]
    for check in _CHECKS:
        results += [_severe(finding, typical=job is None) for finding in _made(evidence, *check)]
    claims = {one.subject for one in results if one.subject.startswith("claim ")}
    if job is None and claims and not claims & {"claim specbatch-results", "claim specbatch-models"}:
        results = [one for one in results if one.cause != "claim-missing"]  # the namespace has claims of its own
    if job is not None and not failed(results):
        results.append(found("spec", f"{job.metadata.name}: everything that its pods name is there"))
    return [*results, *unchecked(evidence)]


def failed(findings: Sequence[Finding]) -> bool:
    """Whether anything keeps runs from working."""
    return any(finding.severity == "error" for finding in findings)


def _made(evidence: Evidence, subject: str, rule: Rule) -> list[Finding]:
    try:
        return check_manifest(evidence, [(subject, rule)])
    except ClusterError as error:
        if error.status == 403:
            evidence.not_permitted.append(subject)
            return []
        return [Finding(cause="api-error", subject=subject, sentence=error.message, remedy=error.remedy or "")]


def _severe(finding: Finding, *, typical: bool) -> Finding:
    """A claim that nobody asked for may be missing; GPUs that a spec asks for may not."""
    if finding.cause == "no-nodes" or (finding.cause == "gpu-resource-unknown" and not typical):
        return replace(finding, severity="error")
    return replace(finding, severity="warning") if finding.cause == "claim-missing" and typical else finding


def _job(job: SpecBatchJob) -> Object:
    section = job.spec.job
    labels = object_labels(job) | ({QUEUE: section.queue_name} if section.queue_name else {})
    counts = {"completions": section.completions, "parallelism": section.parallelism}
    return {"metadata": {"name": _NAME, "labels": labels}, "spec": {**counts, "template": pod_template(job, _NAME)}}
