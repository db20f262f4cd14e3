"""`specbatch fetch SPEC -n NAMESPACE`: the Job that fills the models' claim, started and watched."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import typer

from specbatch.cli.cluster.waiting_display import INTERRUPTED, follow_logs, outage_reporter
from specbatch.cli.output import say, show

if TYPE_CHECKING:
    from specbatch.api.job import SpecBatchJob
    from specbatch.cli.cluster.cluster_options import ClusterOptions
    from specbatch.cluster.client.client import Cluster
    from specbatch.cluster.diagnose.why import Verdict
    from specbatch.cluster.jobs.job_view import JobView
    from specbatch.plan.shapes.hub_model import HubModel

NOTHING_TO_FETCH = "nothing to fetch: the models of this spec are in the package, or in folders"
_STUCK_SECONDS = 20.0
_LAST_LINES_SECONDS = 30.0


def wait_for_fetch(file: str, job: SpecBatchJob, models: Mapping[str, HubModel], options: ClusterOptions) -> None:
    """Starts the Job, or attaches to it, and shows its log to the end.

    Raises:
        Exit: it failed, or Ctrl-C.
    """
    from specbatch.cluster.jobs.job_view import JobView
    from specbatch.cluster.jobs.wait import wait_for_end
    from specbatch.cluster.manifests.fetch_job import fetch_job
    from specbatch.cluster.submit.fetch_models import check_fetch, start_fetch

    if not models:
        show(NOTHING_TO_FETCH)
        return
    body = fetch_job(job)
    cluster, _ = replace(options, namespace=job.metadata.namespace).connect()
    for finding in check_fetch(cluster, body):
        say(f"warning: {finding}")
    started, action = start_fetch(cluster, body)
    view = JobView(started)
    where = f"in namespace {view.namespace} (context {cluster.context})"
    names = " and ".join(dict.fromkeys(map(str, models.values())))
    show(f"{action} Job {view.name} {where}: {names}, into {_volume_text(job)}" if action == "created" else f"attached to Job {view.name} {where}")  # fmt: skip
    cluster.on_outage(outage_reporter(say))
    reading = follow_logs(cluster, started, show)
    try:
        ending = wait_for_end(cluster, started, changed=_stuck_reporter(cluster))
        reading.join(_LAST_LINES_SECONDS)
    except KeyboardInterrupt:
        say(f"detached: Job {view.name} goes on; {cluster.flags.command('logs -f', view.run)} shows it")
        raise typer.Exit(INTERRUPTED) from None
    if ending.end == "complete":
        show("\n".join(_next_steps(file, job, cluster)))
        return
    if ending.end == "failed":
        verdict = _verdict(cluster, view.name)
        show("the models were not fetched" if verdict is None else _verdict_text(verdict), err=True)
    else:
        show(f"Job {view.name} was {ending.end}: the models are not complete", err=True)
    raise typer.Exit(1)


def _next_steps(file: str, job: SpecBatchJob, cluster: Cluster) -> list[str]:
    cache = job.spec.job.volumes.model_cache
    assert cache is not None, "fetch_job has refused it"
    closed = [] if cache.read_only else [f"  in {file}, so that pods start without the hub: job.volumes.modelCache.readOnly: true"]  # fmt: skip
    return [f"the models are on {_volume_text(job)}", "next:", *closed, f"  {cluster.flags.command('submit', file)}"]


def _volume_text(job: SpecBatchJob) -> str:
    cache = job.spec.job.volumes.model_cache
    assert cache is not None, "fetch_job has refused it"
    return f"claim {cache.claim_name}" if cache.claim_name else f"the volume of job.volumes.modelCache ({cache.sources[0]})"  # fmt: skip


def _stuck_reporter(cluster: Cluster) -> Callable[[JobView], None]:
    """Says what a Job waits for that has not begun after twenty seconds, each cause once."""
    from specbatch.cluster.jobs.run import state_of

    began, shown = time.monotonic(), ""

    def changed(view: JobView) -> None:
        nonlocal shown
        if state_of(view) not in {"pending", "suspended"} or time.monotonic() - began < _STUCK_SECONDS:
            return
        verdict = _verdict(cluster, view.name)
        text = (
            ""
            if verdict is None or verdict.view.outcome or verdict.finding.severity == "ok"
            else _verdict_text(verdict)
        )
        if text and text != shown:
            shown = text
            say(f"not yet: {text}")

    return changed


def _verdict(cluster: Cluster, name: str) -> Verdict | None:
    from specbatch.cluster.client.kinds import JOBS
    from specbatch.cluster.diagnose.evidence import Evidence
    from specbatch.cluster.diagnose.why import verdict_of
    from specbatch.cluster.jobs.lookup import job_with_pods

    job = cluster.find(JOBS, name)
    return None if job is None else verdict_of(Evidence(cluster, job_with_pods(cluster, job), spec={}))


def _verdict_text(verdict: Verdict) -> str:
    finding = verdict.finding
    return f"{finding.sentence}\n  remedy: {finding.remedy}" if finding.remedy else finding.sentence
