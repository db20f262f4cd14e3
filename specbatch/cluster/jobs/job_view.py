"""A Job and its pods: conditions by type, completion indexes as shards."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.manifests.names import COMPONENT, FETCH, QUEUE, RUN, SHARDS, SUBMITTED
from specbatch.errors import ExitCode

JOB_NAME = "batch.kubernetes.io/job-name"  # label of a Job's pods
INDEX = "batch.kubernetes.io/job-completion-index"  # label and annotation of an Indexed Job's pods

Outcome = Literal["complete", "failed"]
_EXIT_CODE = re.compile(r"exit code ([0-9]+)")  # in the message of podFailurePolicy
_ENDINGS: Mapping[str, Outcome] = {"Complete": "complete", "Failed": "failed"}


def condition(thing: Object, kind: str) -> Object | None:
    """The condition of a type, of any object, if it is True."""
    conditions: Sequence[Object] = thing.get("status", {}).get("conditions") or ()
    return next((one for one in conditions if one.get("type") == kind and one.get("status") == "True"), None)


def reason_text(thing: Mapping[str, Any] | None) -> str:
    """`reason: message` of a condition or of a pod's status, as far as they are given."""
    return ": ".join(str(thing[name]) for name in ("reason", "message") if thing.get(name)) if thing else ""


def parse_indexes(text: str | None) -> list[int]:
    """The numbers of "0,2-5,9", ascending; none of an empty text."""
    found: list[int] = []
    for part in (text or "").split(","):
        first, _, last = part.partition("-")
        if first.strip():
            found.extend(range(int(first), int(last or first) + 1))
    return sorted(found)


def format_indexes(indexes: Iterable[int]) -> str:
    """The shortest text for these indexes: "0,2-5,9"."""
    runs: list[tuple[int, int]] = []
    for index in sorted(set(indexes)):
        if runs and index == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], index)
        else:
            runs.append((index, index))
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


@dataclass(frozen=True)
class JobView:
    """A Job with its pods at one moment.

    Args:
        job: the Job.
        pods: its pods, without those that were deleted.
    """

    job: Object
    pods: Sequence[Object] = field(default=())

    @property
    def name(self) -> str:
        """Name of the Job."""
        return str(self.job["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """Namespace of the Job."""
        return str(self.job["metadata"].get("namespace", "default"))

    @property
    def run(self) -> str:
        """metadata.name of the spec."""
        return str(self.labels.get(RUN, self.name))

    @property
    def labels(self) -> Mapping[str, str]:
        """Labels of the Job."""
        return self.job["metadata"].get("labels") or {}

    @property
    def annotations(self) -> Mapping[str, str]:
        """Annotations of the Job."""
        return self.job["metadata"].get("annotations") or {}

    @property
    def queue(self) -> str | None:
        """Kueue's LocalQueue."""
        return self.labels.get(QUEUE)

    @property
    def fetches_models(self) -> bool:
        """Whether it is the Job of `specbatch fetch`, which has neither rows nor shards to retry."""
        return self.labels.get(COMPONENT) == FETCH

    @property
    def completions(self) -> int:
        """spec.completions."""
        return int(self.job["spec"].get("completions") or 1)

    @cached_property
    def shards(self) -> Sequence[int]:
        """The shard of each completion index."""
        chosen = self.annotations.get(SHARDS)
        return parse_indexes(chosen) if chosen else range(self.completions)

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None before. A Job with FailureTarget has not ended: its last pods are still ending."""
        return next((outcome for kind, outcome in _ENDINGS.items() if condition(self.job, kind)), None)

    @property
    def failing(self) -> Object | None:
        """The condition Failed or FailureTarget, with reason and message."""
        return condition(self.job, "Failed") or condition(self.job, "FailureTarget")

    @property
    def fatal_exit_code(self) -> ExitCode | None:
        """The exit code of a failed Job, if another attempt would fail the same way; else None."""
        match = _EXIT_CODE.search(str((self.failing or {}).get("message", "")))
        return next((code for code in ExitCode if match and int(match[1]) == code and not code.retryable), None)

    @property
    def suspended(self) -> bool:
        """Whether it is suspended."""
        return bool(self.job["spec"].get("suspend"))

    @property
    def submitted(self) -> bool:
        """Whether it was ever started: a `submit` that was killed half-way leaves a Job that was not."""
        return not self.suspended or SUBMITTED in self.annotations

    @property
    def deleting(self) -> bool:
        """Whether it is being deleted."""
        return "deletionTimestamp" in self.job["metadata"]

    @property
    def completed(self) -> list[int]:
        """The completed indexes."""
        return parse_indexes(self.status.get("completedIndexes"))

    @property
    def failed(self) -> list[int]:
        """The failed indexes."""
        return parse_indexes(self.status.get("failedIndexes"))

    @property
    def status(self) -> Mapping[str, Any]:
        """Status of the Job."""
        return self.job.get("status") or {}

    @cached_property
    def pods_by_index(self) -> Mapping[int, Sequence[Object]]:
        """The pods of each index, oldest first."""
        found: dict[int, list[Object]] = {}
        for pod in sorted(self.pods, key=_created):
            index = pod_index(pod)
            if index is not None:
                found.setdefault(index, []).append(pod)
        return found


def pod_index(pod: Object) -> int | None:
    """The completion index of a pod; None where it has none."""
    metadata = pod["metadata"]
    text = (metadata.get("labels") or {}).get(INDEX) or (metadata.get("annotations") or {}).get(INDEX, "")
    return int(text) if text.isdecimal() else None


def _created(thing: Object) -> tuple[str, str]:
    return str(thing["metadata"].get("creationTimestamp", "")), str(thing["metadata"]["name"])
