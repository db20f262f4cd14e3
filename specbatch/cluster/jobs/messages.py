"""What the commands print about a Job: results, progress, the next commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from specbatch.api.job import SpecBatchJob
from specbatch.cluster.client.flags import Flags
from specbatch.cluster.client.kinds import JOBS
from specbatch.cluster.jobs.job_view import JobView
from specbatch.cluster.jobs.run import state_of
from specbatch.cluster.jobs.wait import WaitResult
from specbatch.cluster.manifests.mounts import results_folder
from specbatch.formatting import pluralize


def next_commands(run: str, flags: Flags) -> list[str]:
    """The suggested commands after a submit."""
    commands = [
        (flags.command("status", run), "rows, speed, time left"),
        (flags.command("logs -f", run), "the output of its pods"),
        (flags.command("why", run), "when it does not start, or fails"),
        (flags.command("collect", run), "the results, when it is complete"),
    ]
    width = max(len(command) for command, _ in commands)
    return ["next:", *(f"  {command:<{width}}  {what}" for command, what in commands)]


def shape_text(job: SpecBatchJob) -> str:
    """`16 shards, 4 at once, 8 nvidia.com/gpu each`."""
    section, gpus = job.spec.job, job.spec.placement.gpus
    at_once = min(section.parallelism or section.completions, section.completions)
    parts = [pluralize(section.completions, "shard")]
    if section.completions > 1:
        parts.append("all at once" if at_once == section.completions else f"{at_once} at once")
    each = " each" if section.completions > 1 else ""
    parts.append(f"{gpus} {section.gpu_resource_name}{each}" if gpus else "on CPUs")
    return ", ".join(parts)


def results_text(job: SpecBatchJob) -> str:
    """`/results/nightly on PersistentVolumeClaim x, and s3://...`; empty where nothing outlives the pods."""
    volume, publish = job.spec.job.volumes.results, job.spec.results.publish
    folder = f"{results_folder(job)}/{job.results_name}"
    places = []
    if volume is not None and volume.claim_name is not None:
        places.append(f"{folder} on PersistentVolumeClaim {volume.claim_name}")
    elif volume is not None and volume.host_path is not None:
        places.append(f"{folder} on the nodes (hostPath {volume.host_path})")
    elif volume is not None and volume.csi is not None:
        places.append(f"{folder} on a volume of {volume.csi.driver}")
    if publish is not None:
        places.append(f"{publish.rstrip('/')}/{job.results_name}/")
    return ", and ".join(places)


def progress_text(view: JobView, state: str, flags: Flags) -> str:
    """`running: 1 of 3 shards done, 2 pods`."""
    active = int(view.status.get("active") or 0)
    parts = [f"{len(view.completed)} of {view.completions} shards done"]
    if view.failed:
        parts.append(f"{len(view.failed)} failed")
    if active:
        parts.append(pluralize(active, "pod"))
    hint = {
        "suspended": f"; {flags.command('resume', view.run)} starts its pods",
        "queued": f"; it waits in queue {view.queue}",
    }.get(state, "")
    return f"{state}: {', '.join(parts)}{hint}"


def wait_result_lines(ending: WaitResult, flags: Flags) -> list[str]:
    """How a wait ended, and the next command."""
    view = JobView(ending.job)
    shards = f"{len(view.completed)} of {view.completions} shards done"
    match ending.end:
        case "complete":
            return [f"Job {view.name} is complete: {shards}", f"next: {flags.command('collect', view.run)}"]
        case "failed":
            reason = f" ({ending.reason})" if ending.reason else ""
            nexts = f"next: {flags.command('why', view.run)}"
            if view.fatal_exit_code is None:  # else a retry would fail the same way
                nexts += f"; {flags.command('retry', view.run)}"
            return [f"Job {view.name} has failed{reason}: {shards}", nexts]
        case "cancelled":
            return [f"Job {view.name} was cancelled: {shards}", f"next: {flags.command('resume', view.run)}"]
        case "deleted":
            return [f"Job {view.name} was deleted: {shards}; finished rows stay finished"]
        case "timeout":
            return [
                f"the time is up, and Job {view.name} goes on: {shards}",
                f"next: {flags.command('status', view.run)}",
            ]


def job_document(view: JobView, **more: Any) -> dict[str, Any]:
    """A Job as plain data; keys may be added, none changes."""
    return {
        "run": view.run,
        "job": view.name,
        "namespace": view.namespace,
        "state": state_of(view),
        "shards": view.completions,
        "shards_done": len(view.completed),
        "shards_failed": len(view.failed),
        **more,
    }


def name_text(names: Sequence[str]) -> str:
    """As kubectl -o name: job.batch/NAME."""
    return "\n".join(f"{JOBS.name.lower()}.{JOBS.group}/{name}" for name in names)
