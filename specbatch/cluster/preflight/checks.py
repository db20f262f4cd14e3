"""What is looked at before a submit: what a Job needs of its cluster, all problems at once. Nothing is written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Finding
from specbatch.cluster.diagnose.table import OF_A_MANIFEST, check_manifest, unchecked
from specbatch.cluster.jobs.job_view import JobView
from specbatch.cluster.jobs.stored_spec import resolved_spec
from specbatch.cluster.manifests.job import Manifests
from specbatch.cluster.preflight.permissions import Uses, check_permissions
from specbatch.errors import ClusterError
from specbatch.formatting import pluralize

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster


class RefusedError(ClusterError):
    """The checks found what would keep a Job from running; `findings` holds all of it."""

    def __init__(self, findings: Sequence[Finding], *, where: str) -> None:
        self.findings = tuple(findings)
        super().__init__(f"{pluralize(len(self.findings), 'problem')} in the cluster", where=where, reason="Refused")

    def __str__(self) -> str:
        return "\n".join([f"{self.where}: {self.message}", *map(str, self.findings)])


def preflight(cluster: Cluster, manifests: Manifests, uses: Uses) -> list[Finding]:
    """What is found.

    Args:
        cluster: where the Job is to run.
        manifests: what it is.
        uses: what will be asked of the cluster, which permissions are needed for.
    """
    evidence = Evidence(cluster, JobView(manifests.job), spec=resolved_spec(manifests.config_map)["spec"])
    gone = check_manifest(evidence, OF_A_MANIFEST[:1])
    if gone:
        return gone  # nothing can be in it
    evidence.not_permitted.clear()  # who has rights in a namespace only hears of it when something is created there
    found = check_manifest(evidence, OF_A_MANIFEST[1:])
    return [*check_permissions(cluster, uses.needed), *found, *unchecked(evidence)]


def stop_at_errors(found: Iterable[Finding], *, where: str) -> None:
    """Does nothing where there is no error.

    Raises:
        RefusedError: with all of them.
    """
    errors = [finding for finding in found if finding.severity == "error"]
    if errors:
        raise RefusedError(errors, where=where)
