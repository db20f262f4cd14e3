"""Submitting a spec: its Job is created, or found. A submit that was left half-way is completed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from specbatch.cluster.client.kinds import CONFIG_MAPS, Object
from specbatch.cluster.jobs.job_view import JobView
from specbatch.cluster.jobs.lookup import find_jobs
from specbatch.cluster.jobs.run import Run, State, config_of, group_into_runs, labels_of
from specbatch.cluster.jobs.spec_changes import spec_changes
from specbatch.cluster.jobs.start_job import complete_start, start_job
from specbatch.cluster.jobs.termination_wait import (
    Say,
    delete_jobs,
    delete_pods,
    managed_by_helm,
    refuse_helm_managed,
    wait_for_termination,
)
from specbatch.cluster.manifests.job import Manifests
from specbatch.cluster.manifests.names import RUN
from specbatch.errors import ClusterError

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster

Action = Literal["created", "completed", "attached"]

_ENDED = {"complete", "failed", "cancelled"}
_NOT_BEGUN = {"not started", "queued"}


@dataclass(frozen=True, slots=True)
class Submission:
    """The result of a submit.

    Args:
        job: the Job.
        action: created; completed (an earlier submit was killed half-way); or attached (it existed).
        state: of the Job when it was found; `pending` or `queued` if it was created.
        replaced: names of the Jobs that were deleted for it.
    """

    job: Object
    action: Action
    state: State
    replaced: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Existing:
    """The existing Jobs of a run, without those that are being deleted.

    Args:
        same: of the same spec, with their retries.
        others: of other specs.
    """

    same: Run | None
    others: Sequence[Run]

    @property
    def newest(self) -> Run | None:
        """The run that a new Job would replace."""
        return self.same or next(iter(self.others), None)

    def replaced(self, *, force: bool) -> list[JobView]:
        """The Jobs that a submit with --force deletes: all of other specs, and those of this spec if they have ended."""
        ended = [self.same] if self.same is not None and self.same.state in _ENDED else []
        return [view for run in (*self.others, *ended) for view in run.jobs] if force else []

    def attachable(self, *, force: bool) -> JobView | None:
        """The Job of the same spec to which a submit attaches."""
        if self.same is None or (force and self.same.state in _ENDED):
            return None
        return self.same.newest


def existing(cluster: Cluster, manifests: Manifests) -> Existing:
    """The existing Jobs of a run."""
    jobs = find_jobs(cluster, run_of(manifests))
    runs = group_into_runs(job for job in jobs if not JobView(job).deleting)
    digest = manifests.config_sha256
    same = next((run for run in runs if any(config_of(view) == digest for view in run.jobs)), None)
    return Existing(same, [run for run in runs if run is not same])


def submit(
    cluster: Cluster,
    manifests: Manifests,
    there: Existing,
    *,
    force: bool = False,
    check: Callable[[], None] = lambda: None,
    say: Say = lambda _: None,
    seconds: float | None = None,
) -> Submission:
    """Starts the Job of these manifests, or attaches to it.

    Args:
        cluster: where it is submitted.
        manifests: of the spec.
        there: the existing Jobs of the run.
        force: delete Jobs of another spec under the same name, and the Job of this one if it has ended.
        check: called before anything is created or deleted; an exception stops the submit.
        say: shows what is waited for.
        seconds: the longest wait for pods of deleted Jobs to end.

    Raises:
        ClusterError: another spec has the name, its results are another run's, the cluster refuses, or pods of an earlier Job do not end.
    """
    refuse_others(cluster, manifests, there, force=force)
    replaced = there.replaced(force=force)
    refuse_helm_managed(cluster, replaced)
    found = there.attachable(force=force)
    if found is not None and not replaced:
        return _attach(cluster, manifests, there, found)
    if found is None or not found.submitted:
        check()
    delete_jobs(cluster, replaced)
    delete_pods(cluster, run_of(manifests), replaced)
    names = [view.name for view in replaced]
    if found is not None and found.submitted:
        return _attach(cluster, manifests, there, found, names)
    wait_for_termination(cluster, run_of(manifests), manifests.config_sha256, seconds=seconds, say=say)
    if found is not None:
        return _attach(cluster, manifests, there, found, names)
    return Submission(start_job(cluster, manifests), "created", _fresh(manifests), names)


def refuse_others(cluster: Cluster, manifests: Manifests, there: Existing, *, force: bool) -> None:
    """Checks that the Jobs of other specs may be replaced.

    Raises:
        ClusterError: without --force, or where the new Job would find another run's results.
    """
    for other in there.others:
        view = other.newest
        stored = cluster.find(CONFIG_MAPS, view.name)
        changes = None if stored is None else spec_changes(stored, manifests.config_map)
        listed = "".join(f"\n    {line}" for line in changes.shown) if changes else " (its ConfigMap is gone)"
        other_results = changes and not changes.same_rows and changes.same_place and other.state not in _NOT_BEGUN
        if not force:
            instead = "start anew with --fresh, in a results folder of its own (--force is refused)"
            instead = instead if other_results else "replace that Job with --force"
            message = f"another spec has the name {view.run}: Job {view.name} ({other.state}){listed}"
            remedy = f"give this one another --name, or {instead}{f'; {changes.consequence}' if changes else ''}"
        elif other_results:
            message = f"Job {view.name} ({other.state}) stays: without it the new one would find the results of another run, and fail{listed}"
            remedy = "--fresh in place of --force starts in a results folder of its own, and deletes no results; or give another --name"
        else:
            continue
        raise ClusterError(message, where=f"namespace {cluster.namespace}", remedy=remedy, reason="AlreadyExists")


def run_of(manifests: Manifests) -> str:
    """metadata.name of the spec."""
    return labels_of(manifests.job)[RUN]


def _attach(
    cluster: Cluster, manifests: Manifests, there: Existing, found: JobView, replaced: Sequence[str] = ()
) -> Submission:
    assert there.same is not None
    state = there.same.state
    if state in _ENDED or managed_by_helm(found):
        return Submission(found.job, "attached", state, replaced)
    job = complete_start(cluster, found.job, manifests.config_map)
    if found.submitted:
        return Submission(job, "attached", state, replaced)
    return Submission(job, "completed", _fresh(manifests), replaced)


def _fresh(manifests: Manifests) -> State:
    return "queued" if JobView(manifests.job).queue is not None else "pending"
