"""Looked at before a submit: what a Job needs of its cluster, all problems at once. Nothing is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from specbatch.api.job import SpecBatchJob
from specbatch.cluster.manifests.job import Manifests
from specbatch.cluster.preflight.access import Uses, check_namespace, check_permissions
from specbatch.cluster.preflight.findings import Case, Check, Finding, run_checks
from specbatch.cluster.preflight.node_checks import check_nodes
from specbatch.cluster.preflight.objects import check_classes, check_queue, check_secrets, check_service_account
from specbatch.cluster.preflight.volumes import check_claims, check_results

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster

_CHECKS: list[tuple[str, Check]] = [
    ("PersistentVolumeClaims", check_claims),
    ("the results", check_results),
    ("Secrets", check_secrets),
    ("ServiceAccounts", check_service_account),
    ("Kueue's queues", check_queue),
    ("PriorityClass and RuntimeClass", check_classes),
    ("nodes", check_nodes),
]


def preflight(cluster: Cluster, job: SpecBatchJob, manifests: Manifests, uses: Uses) -> list[Finding]:
    """What is found.

    GPUs that no node has, and labels that no node has, are warnings: clusters that scale with demand have no such node until a pod asks.

    Args:
        cluster: where the Job is to run.
        job: its spec.
        manifests: what it becomes.
        uses: what will be asked of the cluster, which permissions are needed for.
    """
    case = Case(cluster, job, manifests.job["spec"]["template"]["spec"])
    namespace = run_checks(case, [("the namespace", check_namespace)])
    if any(finding.level == "error" for finding in namespace):
        return namespace  # nothing can be in it
    permissions = list(check_permissions(cluster, uses))
    return [*permissions, *(one for one in namespace if one.level != "unchecked"), *run_checks(case, _CHECKS)]
