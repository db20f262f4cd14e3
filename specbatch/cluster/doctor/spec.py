"""A spec against the cluster: the checks that submit makes before it creates anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from specbatch.cluster.doctor.checkup import Outcome, Result, Visit
from specbatch.cluster.manifests.pod import pod_template
from specbatch.cluster.preflight.findings import Case, Check, run_checks
from specbatch.cluster.preflight.node_checks import check_nodes
from specbatch.cluster.preflight.objects import check_classes, check_queue, check_secrets, check_service_account
from specbatch.cluster.preflight.volumes import check_claims, check_results

_CHECKS: list[tuple[str, Check]] = [
    ("claims of the spec", check_claims),
    ("results of the spec", check_results),
    ("Secrets of the spec", check_secrets),
    ("ServiceAccount of the spec", check_service_account),
    ("queue of the spec", check_queue),
    ("classes of the spec", check_classes),
    ("nodes for the spec", check_nodes),
]
_OUTCOMES: Mapping[str, Outcome] = {"error": "failed", "warning": "warning", "unchecked": "not checked"}


def check_spec(visit: Visit) -> Iterator[Result]:
    """Nothing without a spec."""
    job = visit.job
    if job is None:
        return
    case = Case(visit.cluster, job, pod_template(job, "specbatch-doctor")["spec"])
    found = run_checks(case, _CHECKS)
    for finding in found:
        problem = finding.problem
        yield Result(problem.path, _OUTCOMES[finding.level], problem.message, problem.remedy)
    if not found:
        yield Result("spec", "ok", f"{job.metadata.name}: everything that its pods name is there")
