"""The status of one shard of a run on the cluster: its pods, and what the newest reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from msgspec.structs import replace

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.status.pod_log import PodLog
from specbatch.cluster.status.pod_state import (
    ended_because,
    has_begun,
    has_ended,
    has_succeeded,
    node_of,
    termination_message,
    waits_for,
)
from specbatch.formatting import one_line
from specbatch.results.layout import rows_of_share
from specbatch.results.protocol import Progress, TerminationMessage, row_counts

Verdict = Literal["complete", "running", "starting", "pending", "waiting", "restarting", "failed"]
AT_WORK: frozenset[Verdict] = frozenset({"running", "starting"})

# The Job controller's counts, on each pod: earlier pods may be deleted.
_COUNTS = ("batch.kubernetes.io/job-index-failure-count", "batch.kubernetes.io/job-index-ignored-failure-count")
_REASON_CHARS = 300
_OF_SUMMARY = ("completion_tokens", "tokens_per_second", "acceptance_rate", "mean_acceptance_length")
_OF_MESSAGE = ("completion_tokens", "tokens_per_second", "acceptance_rate")


@dataclass(frozen=True, kw_only=True)
class PodShardStatus:
    """One shard.

    Args:
        shard: its number.
        done: whether a Job of the run has completed it.
        given_up: whether it failed in the newest Job, or that Job is over.
        pods: of the Job that ran it last, oldest first.
        log: of the newest pod; None where it was not read.
        saved: its counts as `cancel` or `suspend` read them last, before its pods were gone.
        shards: how many the run is split into.
        dataset_rows: of all shards, once any of them reports them.
    """

    shard: int
    done: bool = False
    given_up: bool = False
    pods: Sequence[Object] = ()
    log: PodLog | None = None
    saved: Mapping[str, int] = field(default_factory=dict)
    shards: int = 1
    dataset_rows: int | None = None

    @property
    def pod(self) -> Object | None:
        """The newest pod."""
        return self.pods[-1] if self.pods else None

    @property
    def node(self) -> str:
        """Node of the newest pod."""
        return node_of(self.pod) if self.pod else ""

    @cached_property
    def termination_message(self) -> TerminationMessage:
        """Of the newest pod."""
        return (termination_message(self.pod) if self.pod else None) or TerminationMessage()

    @cached_property
    def verdict(self) -> Verdict:
        """The state of the shard."""
        if self.done or (self.pod is not None and has_succeeded(self.pod)):
            return "complete"
        if self.given_up:
            return "failed"
        if self.pod is None:
            return "waiting"
        if not has_begun(self.pod):
            return "pending"
        if has_ended(self.pod):
            return "restarting"
        return "starting" if self.log is not None and self.log.progress is None else "running"

    @property
    def sentence(self) -> str:
        """The state, and why."""
        match self.verdict:
            case "failed":
                return f"failed: {self.why}"
            case "restarting":
                return f"another pod comes: {self.why}"
            case "pending":
                return f"pending: {waits_for(self.pod or {})}"
            case "starting":
                step = self.log.step if self.log else ""
                return f"starting: {step}" if step else "starting"
            case "waiting":
                return "has no pod yet"
            case word:
                return word

    @property
    def why(self) -> str:
        """Why its newest pod ended."""
        if self.pod is None:
            return "its pod is gone"
        because, said = ended_because(self.pod), self.termination_message.reason
        if not said and self.log is not None:
            said = self.log.error.partition("\n  remedy: ")[0]
        return one_line(f"{because}: {said}" if said else because, _REASON_CHARS)

    @property
    def restarts(self) -> int:
        """Pods beyond the first."""
        annotations = (self.pod["metadata"].get("annotations") or {}) if self.pod else {}
        counted = sum(int(annotations[name]) for name in _COUNTS if str(annotations.get(name, "")).isdecimal())
        return max(len(self.pods) - 1, counted, 0)

    @property
    def reasons(self) -> list[str]:
        """Why its earlier pods ended, as far as they still exist."""
        return [ended_because(pod) for pod in self.pods[:-1]]

    @cached_property
    def row_counts(self) -> Mapping[str, int]:
        """rows, errors and dataset_rows of the shard, from its newest pod that reports them. Empty where none does."""
        counts = self.log.counts if self.log is not None else {}
        words = (termination_message(pod) for pod in reversed(self.pods))
        return counts or next(
            (row_counts(word) for word in words if word is not None and word.rows is not None), self.saved
        )

    @property
    def counted_by_pods(self) -> bool:
        """Whether `row_counts` is from a pod that still exists."""
        return bool(self.row_counts) and self.row_counts is not self.saved

    @property
    def share(self) -> int | None:
        """Rows of the shard; None before any shard has read the whole dataset."""
        return None if self.dataset_rows is None else rows_of_share(self.shard, self.shards, self.dataset_rows)

    @cached_property
    def now(self) -> Progress:
        """The last snapshot in the log; for a pod that has ended, its termination message over it."""
        now = (self.log.progress if self.log is not None else None) or Progress(num_speculative_tokens=None)
        if self.pod is not None and has_ended(self.pod):
            summary = self.log.summary if self.log is not None else None
            known = {name: getattr(summary, name) for name in _OF_SUMMARY} if summary is not None else {}
            message = self.termination_message
            known |= {name: value for name in _OF_MESSAGE if (value := getattr(message, name)) is not None}
            now = replace(now, **known, eta_seconds=None)
        complete = self.verdict == "complete"
        rows, total = self.row_counts.get("rows", now.rows), now.total_rows
        if self.share is not None:
            rows, total = self.share if complete else min(rows, self.share), self.share
        elif complete and "rows" in self.row_counts:
            total = rows
        elif total is not None:
            total = max(total, rows)
        return replace(
            now,
            rows=rows,
            errors=self.row_counts.get("errors", now.errors),
            total_rows=total,
            total_rows_estimated=now.total_rows_estimated and total is not None and self.share is None and not complete,
        )
