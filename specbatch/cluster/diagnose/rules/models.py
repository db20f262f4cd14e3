"""The models of a run whose pods ask no hub: whether the Job that fetches them has ended well."""

from __future__ import annotations

from collections.abc import Iterator

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Cause, Finding
from specbatch.cluster.jobs.job_view import JobView
from specbatch.cluster.jobs.lookup import find_jobs
from specbatch.cluster.manifests.fetch_job import fetch_run_name

_NOT_YET = Cause("models-not-fetched", "",
    "Job {name} still fetches the models: pods that start before it has ended find them incomplete, and end with 66",
    "wait for it: {wait}", "warning")  # fmt: skip
_FAILED = Cause("models-not-fetched", "",
    "Job {name} has failed to fetch the models",
    "{why} says why; then specbatch fetch again", "warning")  # fmt: skip


def fetched(evidence: Evidence, _: Object) -> Iterator[Finding]:
    """Says nothing where no such Job is there: models get onto a volume in other ways, too."""
    cache = ((evidence.spec.get("job") or {}).get("volumes") or {}).get("modelCache") or {}
    if not cache.get("readOnly"):
        return
    run = fetch_run_name(evidence.view.run)
    newest = next(iter(find_jobs(evidence.cluster, run)), None)
    if newest is None or JobView(newest).outcome == "complete":
        return
    wait, why = evidence.flags.command("wait", run), evidence.flags.command("why", run)
    cause = _FAILED if JobView(newest).outcome == "failed" else _NOT_YET
    yield cause.finding(name=newest["metadata"]["name"], wait=wait, why=why)
