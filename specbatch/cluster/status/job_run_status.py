"""The status of a run on the cluster: its shards, its state, and its numbers over all shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from msgspec.structs import replace

from specbatch.cluster.client.flags import Flags
from specbatch.cluster.jobs.job_view import JobView
from specbatch.cluster.jobs.run import Run, State, is_over
from specbatch.cluster.status.pod_shard_status import AT_WORK, PodShardStatus, Verdict
from specbatch.results.protocol import Progress

RunState = State | Literal["starting", "finishing"]
_UNKNOWN_REASON = "reason gone with the pod"


@dataclass(frozen=True, kw_only=True)
class JobRunStatus:
    """A run at `clock`, a Unix time.

    Args:
        run: its Jobs.
        view: the newest Job with its pods.
        shards: every shard of the run.
        clock: now.
        queued: message of Kueue's Workload while the Job is queued.
        flags: the options that lead to its cluster.
        notes: what could not be read.
    """

    run: Run
    view: JobView
    shards: Sequence[PodShardStatus]
    clock: float
    queued: str = ""
    flags: Flags = field(default_factory=Flags)
    notes: Sequence[str] = ()

    @property
    def over(self) -> bool:
        """Whether the newest Job has ended or was cancelled."""
        return is_over(self.view)

    @cached_property
    def counts(self) -> Mapping[Verdict, int]:
        """Number of shards by verdict."""
        return Counter(one.verdict for one in self.shards)

    @cached_property
    def state(self) -> RunState:
        """The Job's state; a running or pending one by its shards."""
        state = self.run.state
        if state not in {"running", "pending"}:
            return state
        counts = self.counts
        if counts.get("running"):
            return "running"
        if counts.get("starting"):
            return "starting"
        settled = counts.get("complete", 0) + counts.get("failed", 0)
        return "finishing" if settled == len(self.shards) else "pending"

    @property
    def rows_known_of(self) -> Literal["all", "some", "saved", "none"]:
        """Whose rows `now.rows` counts: of all shards; of some, while others are between two pods; as saved when it was stopped; of none."""
        if any(one.counted_by_pods or one.verdict == "complete" for one in self.shards):
            between = any(not one.row_counts and one.restarts and one.verdict != "complete" for one in self.shards)
            return "some" if between else "all"
        return "saved" if any(one.row_counts for one in self.shards) else "none"

    @cached_property
    def now(self) -> Progress:
        """Progress of all shards together. Speed is that of the running ones, or of all once none is running.

        A complete shard whose rows no pod reports any more has as many as the smallest of the others. Time left is that of the
        slowest shard, or of the rows of shards that have not begun.
        """
        every = [one.now for one in self.shards]
        running = [one.now for one in self.shards if one.verdict == "running" and one.log is not None]
        gone = sum(one.verdict == "complete" and one.now.total_rows is None for one in self.shards)
        now = Progress.of_run(every)
        rows = now.rows + gone * min((one.total_rows for one in every if one.total_rows is not None), default=0)
        total = now.total_rows and max(now.total_rows, rows)
        return replace(
            now,
            rows=rows,
            total_rows=total,
            active=sum(now.active or 0 for now in running),
            tokens_per_second=sum(now.tokens_per_second for now in running or every),
            eta_seconds=self._left(running, 0 if total is None else total - rows),
        )

    @cached_property
    def restarts(self) -> int:
        """Pods beyond the first of each shard."""
        return sum(one.restarts for one in self.shards)

    @property
    def reasons(self) -> Mapping[str, int]:
        """Why the earlier pods ended, the most frequent reason first."""
        counts = Counter(reason for one in self.shards for reason in one.reasons)
        unknown = self.restarts - counts.total()
        return dict(counts.most_common()) | ({_UNKNOWN_REASON: unknown} if unknown > 0 else {})

    def _left(self, running: Sequence[Progress], rows: int) -> float | None:
        """Seconds until the last of so many rows is finished."""
        slowest: list[float] = [left for now in running if (left := now.eta_seconds) is not None]
        if not slowest or len(slowest) < len(running):
            return None
        begun = AT_WORK | {"complete", "failed"}
        if all(one.verdict in begun for one in self.shards):
            return max(slowest)
        rate: float = sum((now.rows - now.skipped) / now.seconds for now in running if now.seconds > 0)
        return max(*slowest, rows / rate) if rate > 0 else None
