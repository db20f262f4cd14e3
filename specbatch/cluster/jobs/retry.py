"""Retries: a Job for the shards of a run that no earlier Job has completed, with the spec and bundled files from the ConfigMap of the Job before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from specbatch.cluster.client.kinds import CONFIG_MAPS, Object
from specbatch.cluster.jobs.job_view import JobView, format_indexes
from specbatch.cluster.jobs.lookup import find_run
from specbatch.cluster.jobs.run import Run, retry_number
from specbatch.cluster.jobs.start_job import complete_start, start_job
from specbatch.cluster.jobs.stored_spec import load_stored_files, load_stored_spec
from specbatch.cluster.manifests.job import Manifests, Retry, render
from specbatch.cluster.manifests.names import RETRY_OF
from specbatch.errors import ClusterError

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster


@dataclass(frozen=True, slots=True)
class Retried:
    """The result of a retry.

    Args:
        job: the Job that runs the shards; the newest one where there is nothing to do.
        shards: of that Job; empty where all are complete.
        done: one sentence about what was done.
        warning: why it may fail again, or empty.
    """

    job: Object
    shards: Sequence[int]
    done: str
    warning: str = ""


def retry(cluster: Cluster, job: Object) -> Retried:
    """Starts a Job for the shards that are not complete, or completes the start of one that was left half-way.

    Args:
        cluster: where the run is.
        job: any Job of the run; the newest of the same spec counts.

    Raises:
        ClusterError: the newest Job has not ended, or its ConfigMap is gone.
    """
    run = find_run(cluster, JobView(job))
    newest = run.newest
    if run.state == "complete":
        return Retried(newest.job, (), f"nothing to retry: Job {newest.name} is complete")
    if run.state == "not started" and RETRY_OF in newest.annotations:
        return _completed(cluster, run)
    if newest.outcome is None:
        raise _not_ended(cluster, run)
    shards = run.unfinished
    if not shards:
        return Retried(newest.job, (), "nothing to retry: every shard is done")
    number = max(map(retry_number, run.jobs)) + 1
    manifests = _manifests(cluster, newest, Retry(number, newest.name, shards))
    made = start_job(cluster, manifests)
    return Retried(
        made, shards, f"created Job {manifests.name} for {_shards(shards)} of {run.total}", _warning(cluster, newest)
    )


def _completed(cluster: Cluster, run: Run) -> Retried:
    """Starts a Job that an earlier `retry` created before it was killed."""
    half = run.newest
    before = next((view for view in run.jobs if view.name == half.annotations[RETRY_OF]), half)
    manifests = _manifests(cluster, before, Retry(retry_number(half), before.name, half.shards))
    made = complete_start(cluster, half.job, manifests.config_map)
    return Retried(
        made,
        half.shards,
        f"started Job {half.name} for {_shards(half.shards)} of {run.total}: it was there, not started",
    )


def _manifests(cluster: Cluster, view: JobView, again: Retry) -> Manifests:
    stored = cluster.find(CONFIG_MAPS, view.name)
    if stored is None:
        raise ClusterError(
            f"ConfigMap {view.name} is gone, and with it the spec",
            where=f"namespace {cluster.namespace}",
            remedy="specbatch submit FILE --force starts the run again; rows that are finished stay finished",
        )
    spec = load_stored_spec(stored)
    return render(spec, load_stored_files(stored, spec), again)


def _not_ended(cluster: Cluster, run: Run) -> ClusterError:
    newest, flags = run.newest, cluster.flags
    resume = f"{flags.command('resume', newest.run)} goes on with it"
    remedies = {
        "suspended": resume,
        "cancelled": resume,
        "not started": "repeat specbatch submit with the same file: it does what is missing",
        "deleting": "wait until it is gone, and submit again: finished rows stay finished",
        "failing": "its last pods are ending: repeat the command in a moment",
    }
    wait = f"{flags.command('wait', newest.run)} returns when it has ended; retry the failed shards then"
    return ClusterError(f"Job {newest.name} has not ended: it is {run.state}", remedy=remedies.get(run.state, wait))


def _warning(cluster: Cluster, view: JobView) -> str:
    """For a Job that failed with an exit code that a retry would not change."""
    code = view.fatal_exit_code
    if code is None:
        return ""
    return (
        f"Job {view.name} failed with exit code {int(code)} ({code.meaning}): "
        f"the same will happen unless something has changed; {cluster.flags.command('why', view.run)} tells"
    )


def _shards(shards: Sequence[int]) -> str:
    return f"shard{'' if len(shards) == 1 else 's'} {format_indexes(shards)}"
