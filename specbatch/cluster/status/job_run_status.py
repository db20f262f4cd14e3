"""A run on the cluster as a whole: its shards, its state in a word, and its numbers over all shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from msgspec.structs import replace

from specbatch.cluster.jobs.job_view import JobView
from specbatch.cluster.jobs.run import Run, State, is_over
from specbatch.cluster.status.pod_shard_status import AT_WORK, PodShardStatus, Verdict
from specbatch.results.protocol import Progress

RunState = State | Literal["starting", "finishing"]
_UNTOLD = "reason gone with the pod"


@dataclass(frozen=True, kw_only=True)
class JobRunStatus:
    """A run at `clock`, a Unix time.

    Args:
        run: its Jobs.
        view: the newest Job with its pods.
        shards: every shard of the run.
        clock: now.
        queued: what Kueue says of it, where it has it.
        notes: what could not be looked at.
    """

    run: Run
    view: JobView
    shards: Sequence[PodShardStatus]
    clock: float
    queued: str = ""
    notes: Sequence[str] = ()

    @property
    def over(self) -> bool:
        """Whether nothing more happens by itself."""
        return is_over(self.view)

    @cached_property
    def counts(self) -> Mapping[Verdict, int]:
        """How many shards are how."""
        return Counter(one.verdict for one in self.shards)

    @cached_property
    def state(self) -> RunState:
        """In a word."""
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

    @cached_property
    def total_rows(self) -> int | None:
        """Rows of all shards; where only some know theirs, all are taken to have as many. None where none does."""
        known: list[int] = [total for one in self.shards if (total := one.now.total_rows) is not None]
        if not known:
            return None
        return max(sum(known) + max(known) * (len(self.shards) - len(known)), self.rows)

    @property
    def total_known(self) -> bool:
        """Whether `total_rows` is a sum of what all shards know."""
        return not any(one.now.total_rows is None or one.now.total_rows_estimated for one in self.shards)

    @cached_property
    def rows(self) -> int:
        """Rows that have ended, each once, as far as pods tell; never more than there are."""
        told: int = sum(one.now.rows for one in self.shards)
        known = [total for one in self.shards if (total := one.now.total_rows) is not None]
        gone = sum(one.verdict == "complete" and one.now.total_rows is None for one in self.shards)
        return told + gone * min(known, default=0) + self._moved_rows

    @property
    def _moved_rows(self) -> int:
        """Rows that earlier splits have finished of shards that no pod of this one has told of: the others have read those files."""
        old: int = max((one.told.get("old_rows", 0) for one in self.shards), default=0)
        untold = [one for one in self.shards if not one.told and one.verdict != "complete"]
        if not old or not untold or len(untold) < sum(not one.told for one in self.shards):
            return 0
        return max(0, old - sum(one.told.get("old_rows_here", 0) for one in self.shards))

    @property
    def told(self) -> Literal["all", "some", "saved", "none"]:
        """Whose rows `rows` counts: of all shards; of some, others being between two pods; as they were when it was stopped; of none."""
        if any(one.told_by_pods or one.verdict == "complete" for one in self.shards):
            between = any(not one.told and one.restarts and one.verdict != "complete" for one in self.shards)
            return "some" if between else "all"
        return "saved" if any(one.told for one in self.shards) else "none"

    @cached_property
    def now(self) -> Progress:
        """That of all shards together. Speed is that of the running ones, and of all once none is.

        Time left is that of the slowest, and of the rows that nobody works on yet.
        """
        every = [one.now for one in self.shards]
        running = [one.now for one in self.shards if one.verdict == "running" and one.log is not None]
        return replace(
            Progress.merged(every),
            rows=self.rows,
            total_rows=self.total_rows,
            total_rows_estimated=not self.total_known,
            active=sum(now.active or 0 for now in running),
            tokens_per_second=sum(now.tokens_per_second for now in running or every),
            eta_seconds=self._left(running),
        )

    @cached_property
    def restarts(self) -> int:
        """Pods beyond the first of each shard."""
        return sum(one.restarts for one in self.shards)

    @property
    def reasons(self) -> Mapping[str, int]:
        """Why those before ended; the most frequent first."""
        counts = Counter(reason for one in self.shards for reason in one.reasons)
        untold = self.restarts - counts.total()
        return dict(counts.most_common()) | ({_UNTOLD: untold} if untold > 0 else {})

    def _left(self, running: Sequence[Progress]) -> float | None:
        slowest: list[float] = [left for now in running if (left := now.eta_seconds) is not None]
        if not slowest or len(slowest) < len(running):
            return None
        begun = AT_WORK | {"complete", "failed"}
        if all(one.verdict in begun for one in self.shards):
            return max(slowest)
        rate: float = sum((now.rows - now.skipped) / now.seconds for now in running if now.seconds > 0)
        unbegun: int = (self.total_rows or self.rows) - self.rows
        return max(*slowest, unbegun / rate) if rate > 0 else None
