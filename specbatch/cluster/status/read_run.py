"""Reading the status of a run from the cluster: Jobs, pods, and the last lines of running pods' logs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from specbatch.cluster.client.kinds import PODS, WORKLOADS, Object
from specbatch.cluster.client.kueue import JOB_UID, kueue_kinds
from specbatch.cluster.jobs.job_view import JOB_NAME, JobView
from specbatch.cluster.jobs.lookup import find_job, find_run, job_with_pods
from specbatch.cluster.jobs.run import Run, labels_of, uid_of
from specbatch.cluster.manifests.names import ROW_COUNTS, SHARDS, run_selector
from specbatch.cluster.status.job_run_status import JobRunStatus
from specbatch.cluster.status.pod_log import PodLog, read_log
from specbatch.cluster.status.pod_shard_status import PodShardStatus
from specbatch.cluster.status.pod_state import has_begun, has_ended, termination_message
from specbatch.errors import ClusterError
from specbatch.formatting import pluralize

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster

_LOGS = 512  # read at most
_READERS = 16
_LINES, _BYTES = 20, 1 << 16


def read_run(cluster: Cluster, name: str | None, clock: float) -> JobRunStatus:
    """The status of a run (None: the newest of the namespace) at `clock`, the Unix time now.

    Needs permission to list Jobs and pods only; logs that cannot be read become a note.

    Raises:
        ClusterError: there is no such run, or it cannot be read.
    """
    job = find_job(cluster, name)
    view = job_with_pods(cluster, job)
    run = _run_of(cluster, view)
    earlier = _earlier_pods(cluster, run)
    pods = {**earlier, **{view.shards[index]: found for index, found in view.pods_by_index.items()}}
    logs, notes = _read_logs(cluster, [found[-1] for found in pods.values()])
    done = run.done | _done_by_the_gone(run, pods)
    saved = _saved_counts(run)
    given_up = set(run.failed) | (set(view.shards) if view.outcome == "failed" else set())
    shards = [
        PodShardStatus(
            shard=shard,
            done=shard in done,
            given_up=shard in given_up or shard not in view.shards,
            pods=pods.get(shard, ()),
            log=logs.get(uid_of(pods[shard][-1])) if shard in pods else None,
            saved=saved.get(shard, {}),
        )
        for shard in sorted(done | set(run.unfinished))
    ]
    shards = _with_dataset(shards)
    return JobRunStatus(
        run=run, view=view, shards=shards, clock=clock, queued=_queued(cluster, run), flags=cluster.flags, notes=notes
    )


def _with_dataset(shards: Sequence[PodShardStatus]) -> list[PodShardStatus]:
    """The shards with the rows of the dataset, once one shard reports them: then each one's share is known."""
    rows = next((count for one in shards if (count := one.row_counts.get("dataset_rows")) is not None), None)
    count = max([len(shards), *(one.termination_message.shards or 0 for one in shards)])
    return [replace(one, shards=count, dataset_rows=rows) for one in shards]


def _run_of(cluster: Cluster, view: JobView) -> Run:
    """The Job with the earlier Jobs of its run."""
    jobs = find_run(cluster, view).jobs
    names = [job.name for job in jobs]
    return Run([view, *jobs[names.index(view.name) + 1 :]])


def _done_by_the_gone(run: Run, pods: Mapping[int, Sequence[Object]]) -> set[int]:
    """The shards that a deleted first Job had completed: a retry runs all the others."""
    if any(SHARDS not in job.annotations for job in run.jobs):
        return set()
    words = [termination_message(pod) for found in pods.values() for pod in found]
    total = max((word.shards or 0 for word in words if word is not None), default=0)
    return set(range(total)) - set(run.unfinished)


def _earlier_pods(cluster: Cluster, run: Run) -> dict[int, Sequence[Object]]:
    """Shard -> its pods in the Jobs before the newest; of the Job that ran it last."""
    found: dict[int, Sequence[Object]] = {}
    if len(run.jobs) == 1:
        return found
    by_job: dict[str, list[Object]] = {}
    for pod in cluster.list(PODS, labels=run_selector(run.name)):
        by_job.setdefault(labels_of(pod).get(JOB_NAME, ""), []).append(pod)
    for member in reversed(run.jobs[1:]):
        view = JobView(member.job, by_job.get(member.name, ()))
        found |= {view.shards[index]: pods for index, pods in view.pods_by_index.items() if index < len(view.shards)}
    return found


def _read_logs(cluster: Cluster, pods: Iterable[Object]) -> tuple[Mapping[str, PodLog], list[str]]:
    """(logs by pod uid, notes): of running pods, and of ended ones without a termination message."""
    wanted = [pod for pod in pods if has_begun(pod) and (not has_ended(pod) or termination_message(pod) is None)]
    wanted.sort(key=has_ended)
    chosen = wanted[:_LOGS]
    problems: dict[str, int] = {}

    def read(pod: Object) -> PodLog | None:
        try:
            return read_log(cluster.log(pod["metadata"]["name"], tail=_LINES, limit_bytes=_BYTES))
        except ClusterError as error:
            if error.status in {400, 404}:  # not there yet, or no longer
                return PodLog()
            problems[error.message] = problems.get(error.message, 0) + 1
            return None

    with ThreadPoolExecutor(max_workers=_READERS) as readers:
        found = zip(map(uid_of, chosen), readers.map(read, chosen), strict=True)
        logs = {uid: log for uid, log in found if log is not None}
    notes = [f"{pluralize(count, 'log')} could not be read: {said}" for said, count in list(problems.items())[:1]]
    if len(wanted) > len(chosen):
        notes.append(f"the logs of {len(chosen):,} of {len(wanted):,} pods were read: rows and speed are of those")
    return logs, notes


def _queued(cluster: Cluster, run: Run) -> str:
    """The message of the Workload of a queued Job."""
    if run.state != "queued":
        return ""
    try:
        kinds = kueue_kinds(cluster)
        workloads = kinds.workloads if kinds else WORKLOADS
        found = cluster.list(workloads, labels={JOB_UID: str(run.newest.job["metadata"]["uid"])})
    except ClusterError as error:
        if error.status not in {403, 404}:
            raise
        return ""
    conditions = (one for item in found for one in (item.get("status") or {}).get("conditions") or ())
    waiting = [one for one in conditions if (one.get("type"), one.get("status")) == ("QuotaReserved", "False")]
    return " ".join(str(waiting[0].get("message") or "").split()) if waiting else ""


def _saved_counts(run: Run) -> Mapping[int, Mapping[str, int]]:
    """Shard -> the counts that `status.stop` kept on the Jobs of a run; a newer Job's go over an older one's."""
    found: dict[int, Mapping[str, int]] = {}
    for job in reversed(run.jobs):
        try:
            value = json.loads(job.annotations.get(ROW_COUNTS) or "{}")
            found |= {int(shard): {str(key): int(n) for key, n in counts.items()} for shard, counts in value.items()}
        except (ValueError, TypeError, AttributeError):  # edited by hand
            continue
    return found
