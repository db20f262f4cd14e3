"""The checks before a submit writes anything: of the cluster, then a dry run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from specbatch.api.job import SpecBatchJob
from specbatch.cluster.client.kinds import CONFIG_MAPS
from specbatch.cluster.diagnose.finding import Finding
from specbatch.cluster.manifests.job import Manifests
from specbatch.cluster.preflight.checks import preflight, stop_at_errors
from specbatch.cluster.preflight.dry_run import DryRun, dry_run
from specbatch.cluster.preflight.permissions import Uses, check_permissions
from specbatch.cluster.submit.diff import diff_text
from specbatch.cluster.submit.submit import Existing, existing
from specbatch.errors import ClusterError

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster


@dataclass
class SubmitChecks:
    """The checks of one submit, and their findings.

    Args:
        cluster: where it is submitted.
        job: the spec.
        manifests: of the spec.
        uses: what the submit will do there.
        skip: leave out the checks of the cluster, not the dry run.
    """

    cluster: Cluster
    job: SpecBatchJob
    manifests: Manifests
    uses: Uses
    skip: bool = False
    findings: list[Finding] = field(default_factory=list)
    tried: DryRun | None = None

    def run(self) -> DryRun:
        """The objects as the API server would create them.

        Raises:
            RefusedError: something keeps the Job from running.
            ClusterError: the cluster refuses.
        """
        if self.tried is None:
            where = f"namespace {self.cluster.namespace}"
            if not self.skip:
                self.findings += preflight(self.cluster, self.manifests, self.uses)
                stop_at_errors(self.findings, where=where)
            tried = dry_run(self.cluster, self.manifests)
            self.findings += tried.findings
            stop_at_errors(tried.findings, where=where)
            self.tried = tried
        return self.tried

    def look(self) -> Existing:
        """The existing Jobs of the run.

        Raises:
            RefusedError: with all missing permissions, where one is missing.
        """
        try:
            return existing(self.cluster, self.manifests)
        except ClusterError as error:
            if error.status == 403:
                missing = list(check_permissions(self.cluster, self.uses.needed))
                stop_at_errors(missing, where=f"namespace {self.cluster.namespace}")
            raise

    def diff(self, there: Existing) -> str:
        """What would change, as a unified diff; empty where nothing."""
        newest = there.newest
        if there.same is not None:
            return ""
        tried = self.run()
        if newest is None:
            return diff_text((None, None), (tried.job, tried.config_map))
        view = newest.newest
        stored = self.cluster.find(CONFIG_MAPS, view.name)
        return diff_text((view.job, stored), (tried.job, tried.config_map))
