"""A run: its first Job, the retries, and the shards that they have completed together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.jobs.job_view import JobView
from specbatch.cluster.manifests.names import CANCELLED, CONFIG, RETRY_OF, SHARDS

State = Literal[
    "complete", "failed", "cancelled", "failing", "deleting", "not started", "queued", "suspended", "running", "pending"
]

_Key = tuple[str, str]  # namespace and name
_RETRY = re.compile(r"-[0-9a-f]{10}-r([0-9]+)$")


def state_of(view: JobView) -> State:
    """The state of a Job, from the Job alone."""
    if view.deleting:
        return "deleting"
    cancelled = CANCELLED in view.annotations
    if view.outcome is not None:
        return "cancelled" if cancelled and view.outcome == "failed" else view.outcome
    if cancelled:
        return "cancelled"
    if view.failing is not None:
        return "failing"
    if view.suspended:
        return _of_suspended(view)
    all_done = len(view.completed) == view.completions  # the Job controller has not set Complete yet
    return "running" if view.status.get("ready") or all_done else "pending"


def is_over(view: JobView) -> bool:
    """Whether it has ended or was cancelled."""
    return state_of(view) in {"complete", "failed", "cancelled"}


def retry_number(view: JobView) -> int:
    """The number of the attempt: 1, or the number at the end of a retry's name."""
    match = _RETRY.search(view.name)
    return int(match[1]) if match and RETRY_OF in view.annotations else 1


def age_key(view: JobView) -> tuple[str, int, str]:
    """Sorts Jobs by age, the oldest first. Timestamps have whole seconds: within the same second the retry is newer."""
    return str(view.job["metadata"].get("creationTimestamp", "")), retry_number(view), view.name


@dataclass(frozen=True)
class Run:
    """A run's Jobs of one spec: the first and its retries.

    Args:
        jobs: at least one, newest first, without those that were deleted.
    """

    jobs: Sequence[JobView]

    @property
    def newest(self) -> JobView:
        """The newest Job."""
        return self.jobs[0]

    @property
    def name(self) -> str:
        """metadata.name of the spec."""
        return self.newest.run

    @property
    def state(self) -> State:
        """Of the newest Job."""
        return state_of(self.newest)

    @cached_property
    def shards(self) -> frozenset[int]:
        """All shards; where the first Job is deleted, those of the retries."""
        first = next((job for job in self.jobs if SHARDS not in job.annotations), None)
        return frozenset(shard for job in ([first] if first else self.jobs) for shard in job.shards)

    @property
    def total(self) -> int:
        """Number of shards."""
        return len(self.shards)

    @cached_property
    def done(self) -> frozenset[int]:
        """The shards that some Job has completed."""
        return frozenset(shard for job in self.jobs for shard in _shards(job, job.completed))

    @cached_property
    def failed(self) -> frozenset[int]:
        """The shards that failed in the newest Job."""
        return frozenset(_shards(self.newest, self.newest.failed)) - self.done

    @property
    def unfinished(self) -> list[int]:
        """The shards that no Job has completed."""
        return sorted(self.shards - self.done)


def group_into_runs(jobs: Iterable[Object]) -> list[Run]:
    """Groups Jobs into runs, in the order of their newest Jobs; a retry belongs to the run of the Job that it retries."""
    views = sorted(map(JobView, jobs), key=age_key)
    leaders: dict[_Key, _Key] = {}  # a Job: the first of its run
    first_of: dict[tuple[str, str, str | None], _Key] = {}
    for view in views:
        key = (view.namespace, view.name)
        earlier = leaders.get((view.namespace, view.annotations.get(RETRY_OF, "")))
        leaders[key] = earlier or first_of.setdefault((view.namespace, view.run, config_of(view)), key)
    found: dict[_Key, list[JobView]] = {}
    for view in reversed(views):
        found.setdefault(leaders[view.namespace, view.name], []).append(view)
    return [Run(members) for members in found.values()]


def config_of(view: JobView) -> str | None:
    """sha256 of the content of a Job's ConfigMap."""
    return view.annotations.get(CONFIG)


def uid_of(thing: Object) -> str:
    """metadata.uid."""
    return str(thing["metadata"]["uid"])


def labels_of(thing: Object) -> Mapping[str, str]:
    """metadata.labels."""
    return thing["metadata"].get("labels") or {}


def _of_suspended(view: JobView) -> State:
    if not view.submitted:
        return "not started"
    return "queued" if view.queue is not None else "suspended"


def _shards(view: JobView, indexes: Iterable[int]) -> list[int]:
    return [view.shards[index] for index in indexes if index < len(view.shards)]
