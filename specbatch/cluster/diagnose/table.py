"""The rules in their order, the one whose answer is the most certain first, and what they say of a Job that does not exist yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Finding
from specbatch.cluster.diagnose.rules import (
    admission,
    exits,
    job,
    kubelet,
    progress,
    queues,
    references,
    scheduling,
    storage,
)

Rule = Callable[[Evidence, Object], Iterator[Finding]]

OF_A_JOB: Sequence[Rule] = (job.state, queues.queue)
"""Of a Job, whatever its pods do; the first answer counts."""

OF_A_POD: Sequence[Rule] = (
    exits.failure,
    progress.ending,
    storage.claims,
    scheduling.unschedulable,
    kubelet.containers,
    progress.running,
    kubelet.setup,
    progress.starting,
)
"""Of a pod that exists; the first answer counts."""

BEFORE_A_FETCH: Sequence[tuple[str, Rule]] = (
    ("namespace", admission.namespace),
    ("claims", storage.claims),
    ("Secrets", references.secrets),
    ("nodes", scheduling.nodes),
)
"""Of a pod that does not exist yet, by what is looked at; every answer counts."""

OF_A_MANIFEST: Sequence[tuple[str, Rule]] = (
    *BEFORE_A_FETCH,
    ("claims", storage.access_modes),
    ("results", storage.results_volume),
    ("models", references.models),
    ("queue", queues.queue),
)
"""Of one that fetches no models, too."""

# Of claims: what may be there when the first pod comes.
_LATER = {"claim-unbound", "no-default-storage-class", "provisioning-failed", "storage-class-missing"}


def planned_pod(evidence: Evidence) -> Object:
    """A pod as its Job would make it."""
    template = evidence.view.job["spec"]["template"]
    metadata = {**template.get("metadata", {}), "name": f"{evidence.view.name}-0"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def check_manifest(evidence: Evidence, rules: Sequence[tuple[str, Rule]]) -> list[Finding]:
    """Everything that the rules find of such a pod."""
    found = [(subject, one) for subject, rule in rules for one in rule(evidence, planned_pod(evidence))]
    return [replace(_planned(one, subject), subject=one.subject or subject) for subject, one in found]


def _planned(finding: Finding, subject: str) -> Finding:
    """Clusters make nodes and volumes when a pod asks for them: what lacks now is a warning."""
    if finding.cause in _LATER:
        return replace(finding, severity="warning")
    if subject != "nodes" or finding.severity != "error":
        return finding
    lines = f" ({'; '.join(finding.evidence)})" if finding.evidence else ""
    remedy = f"{finding.remedy}; no trouble where nodes come on demand"
    return replace(finding, sentence=f"{finding.sentence}{lines}", remedy=remedy, severity="warning")


def unchecked(evidence: Evidence) -> list[Finding]:
    """What was not permitted so far."""
    return [
        Finding(cause="not-permitted", subject=what, sentence="not permitted to look", severity="unchecked")
        for what in evidence.not_permitted
    ]
