"""A Job and its pods as one thing to ask: conditions by type, indexes as shards, the newest pod of each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.jobs.indexes import parse_indexes
from specbatch.cluster.manifests.names import QUEUE, RUN, SHARDS, SUBMITTED
from specbatch.errors import ExitCode

JOB_NAME = "batch.kubernetes.io/job-name"  # label of a Job's pods
INDEX = "batch.kubernetes.io/job-completion-index"  # label and annotation of an Indexed Job's pods

Outcome = Literal["complete", "failed"]
_EXIT_CODE = re.compile(r"exit code ([0-9]+)")  # in the message of podFailurePolicy
_ENDINGS: Mapping[str, Outcome] = {"Complete": "complete", "Failed": "failed"}


def condition(thing: Object, kind: str) -> Object | None:
    """The condition of a type that is True, of any object; conditions have no order."""
    conditions: Sequence[Object] = thing.get("status", {}).get("conditions") or ()
    return next((one for one in conditions if one.get("type") == kind and one.get("status") == "True"), None)


@dataclass(frozen=True)
class JobView:
    """A Job with its pods, as of one moment.

    Args:
        job: the Job.
        pods: its pods; those that the control plane has removed are missing.
    """

    job: Object
    pods: Sequence[Object] = field(default=())

    @property
    def name(self) -> str:
        """Of the Job."""
        return str(self.job["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """Where it is."""
        return str(self.job["metadata"].get("namespace", "default"))

    @property
    def run(self) -> str:
        """metadata.name of the spec."""
        return str(self.labels.get(RUN, self.name))

    @property
    def command_args(self) -> str:
        """What a person types after a command to mean it."""
        return self.run if self.namespace == "default" else f"{self.run} -n {self.namespace}"

    @property
    def labels(self) -> Mapping[str, str]:
        """Of the Job."""
        return self.job["metadata"].get("labels") or {}

    @property
    def annotations(self) -> Mapping[str, str]:
        """Of the Job."""
        return self.job["metadata"].get("annotations") or {}

    @property
    def queue(self) -> str | None:
        """Kueue's LocalQueue."""
        return self.labels.get(QUEUE)

    @property
    def completions(self) -> int:
        """Pods that must succeed."""
        return int(self.job["spec"].get("completions") or 1)

    @cached_property
    def shards(self) -> Sequence[int]:
        """The shard that each index stands for."""
        chosen = self.annotations.get(SHARDS)
        return parse_indexes(chosen) if chosen else range(self.completions)

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None while it has not. A Job that is about to fail, its last pods ending, has not."""
        return next((outcome for kind, outcome in _ENDINGS.items() if condition(self.job, kind)), None)

    @property
    def failing(self) -> Object | None:
        """The condition that says why it failed, or is about to."""
        return condition(self.job, "Failed") or condition(self.job, "FailureTarget")

    @property
    def fatal_exit_code(self) -> ExitCode | None:
        """The exit code by which a Job failed that no other attempt mends; None where it failed by anything else, or did not."""
        match = _EXIT_CODE.search(str((self.failing or {}).get("message", "")))
        return next((code for code in ExitCode if match and int(match[1]) == code and not code.retryable), None)

    @property
    def suspended(self) -> bool:
        """Whether it starts no pods."""
        return bool(self.job["spec"].get("suspend"))

    @property
    def submitted(self) -> bool:
        """Whether it was ever started: a `submit` that died half-way leaves a Job that was not."""
        return not self.suspended or SUBMITTED in self.annotations

    @property
    def deleting(self) -> bool:
        """Whether it is on its way out."""
        return "deletionTimestamp" in self.job["metadata"]

    @property
    def completed(self) -> list[int]:
        """The indexes that are done."""
        return parse_indexes(self.status.get("completedIndexes"))

    @property
    def failed(self) -> list[int]:
        """The indexes that were given up."""
        return parse_indexes(self.status.get("failedIndexes"))

    @property
    def status(self) -> Mapping[str, Any]:
        """As the control plane reports it."""
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
