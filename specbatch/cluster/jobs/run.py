"""The Jobs of a run: the first, its retries, and what they have done together."""

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
    """How a Job stands, in one word; of its own status alone."""
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
    all_done = len(view.completed) == view.completions  # and the control plane has not said so yet
    return "running" if view.status.get("ready") or all_done else "pending"


def is_over(view: JobView) -> bool:
    """Whether nothing more happens by itself: it has ended, or was cancelled."""
    return state_of(view) in {"complete", "failed", "cancelled"}


def retry_number(view: JobView) -> int:
    """Which try of its spec a Job is: 1, or the number at the end of a retry's name."""
    match = _RETRY.search(view.name)
    return int(match[1]) if match and RETRY_OF in view.annotations else 1


def age_key(view: JobView) -> tuple[str, int, str]:
    """A key that sorts Jobs by age, the oldest first. Times have whole seconds: of two in the same one the retry is the newer."""
    return str(view.job["metadata"].get("creationTimestamp", "")), retry_number(view), view.name


@dataclass(frozen=True)
class Run:
    """A run's Jobs of one spec: the first and its retries.

    Args:
        jobs: newest first; at least one. Those that were deleted are missing.
    """

    jobs: Sequence[JobView]

    @property
    def newest(self) -> JobView:
        """The Job that counts."""
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
        """All of its shards; where the first Job is gone, those that are known of."""
        first = next((job for job in self.jobs if SHARDS not in job.annotations), None)
        return frozenset(shard for job in ([first] if first else self.jobs) for shard in job.shards)

    @property
    def total(self) -> int:
        """How many they are."""
        return len(self.shards)

    @cached_property
    def done(self) -> frozenset[int]:
        """The shards that some Job has completed."""
        return frozenset(shard for job in self.jobs for shard in _shards(job, job.completed))

    @cached_property
    def failed(self) -> frozenset[int]:
        """The shards that the newest Job has given up."""
        return frozenset(_shards(self.newest, self.newest.failed)) - self.done

    @property
    def unfinished(self) -> list[int]:
        """The shards that no Job has completed."""
        return sorted(self.shards - self.done)


def group_into_runs(jobs: Iterable[Object]) -> list[Run]:
    """Jobs as runs, in the order of their newest ones; a retry belongs to the Job that it retries."""
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
    """The sha256 of a Job's ConfigMap."""
    return view.annotations.get(CONFIG)


def uid_of(thing: Object) -> str:
    """What tells an object from a later one of its name."""
    return str(thing["metadata"]["uid"])


def labels_of(thing: Object) -> Mapping[str, str]:
    """Of any object."""
    return thing["metadata"].get("labels") or {}


def _of_suspended(view: JobView) -> State:
    if not view.submitted:
        return "not started"
    return "queued" if view.queue is not None else "suspended"


def _shards(view: JobView, indexes: Iterable[int]) -> list[int]:
    return [view.shards[index] for index in indexes if index < len(view.shards)]
