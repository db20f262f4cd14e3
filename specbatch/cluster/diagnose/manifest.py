"""What the rules say of a Job that does not exist yet: for the checks of submit, and for doctor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Finding
from specbatch.cluster.diagnose.table import Rule
from specbatch.errors import ClusterError

_ON_DEMAND = "no trouble where nodes come on demand"
# Of claims: what may be there when the first pod comes.
_LATER = {"claim-unbound", "no-default-storage-class", "provisioning-failed", "storage-class-missing"}


def planned_pod(evidence: Evidence) -> Object:
    """A pod as its Job would make it."""
    return {"metadata": {"name": evidence.view.name}, "spec": evidence.view.job["spec"]["template"]["spec"]}


def check_manifest(evidence: Evidence, rules: Sequence[tuple[str, Rule]]) -> list[Finding]:
    """Everything that the rules find, and what may not be looked at.

    What no node has, and a volume that is not there yet, are warnings only: clusters make nodes and volumes when a pod asks for them.
    """
    found: list[Finding] = []
    for subject, rule in rules:
        try:
            found += [replace(one, subject=one.subject or subject) for one in rule(evidence, planned_pod(evidence))]
        except ClusterError as error:
            if error.status != 403:
                raise
            evidence.not_permitted.append(subject)
    return [_as_planned(one) for one in found]


def unchecked(evidence: Evidence) -> list[Finding]:
    """What was not permitted so far."""
    return [
        Finding(cause="not-permitted", subject=what, sentence="not permitted to look", severity="unchecked")
        for what in evidence.not_looked_at
    ]


def _as_planned(finding: Finding) -> Finding:
    if finding.subject != "nodes" or finding.severity != "error":
        return replace(finding, severity="warning") if finding.cause in _LATER else finding
    lines = f" ({'; '.join(finding.evidence)})" if finding.evidence else ""
    return replace(
        finding,
        sentence=f"{finding.sentence}{lines}",
        remedy=f"{finding.remedy}; {_ON_DEMAND}",
        severity="warning",
    )
