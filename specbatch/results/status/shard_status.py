"""One shard of a run from outside, from its progress file, its manifest and the sizes of its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from specbatch.results.attempts import Attempt
from specbatch.results.ended import Ended
from specbatch.results.layout import rows_of_share
from specbatch.results.manifest import Manifest
from specbatch.results.protocol import Progress, PublishState
from specbatch.results.status.verdict import AT_WORK, Judgement, Verdict, judge
from specbatch.results.summary import RunSummary, combine
from specbatch.results.totals import Totals


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardStatus:
    """One shard at `clock`, a Unix time.

    Args:
        shard, shards: which, of how many.
        clock: now.
        attempts: at it.
        manifest: its own, of the last split.
        locked: whether the kernel shows a writer of its rows.
        grown: rows, and errors among them, that its files hold beyond the last attempt's count.
        dataset_rows: of all shards, as far as any of them knows.
    """

    shard: int
    shards: int
    clock: float
    attempts: Sequence[Attempt] = ()
    manifest: Manifest | None = None
    locked: bool = False
    grown: tuple[int, int] = (0, 0)
    dataset_rows: int | None = None

    @property
    def last(self) -> Attempt | None:
        """The newest attempt."""
        return self.attempts[-1] if self.attempts else None

    @property
    def alive(self) -> bool | None:
        """Whether a writer is at work; None where that cannot be seen from this machine."""
        if self.locked:
            return True
        return self.last.process.alive if self.last and self.last.process else None

    @property
    def age_seconds(self) -> float | None:
        """Since its attempt was last saved; never below 0, for the clocks of two machines differ."""
        return max(0.0, self.clock - self.last.updated_at) if self.last else None

    @property
    def known_dataset_rows(self) -> int | None:
        """Rows of the whole dataset, as far as its own files show."""
        of_manifest = self.manifest.dataset_rows if self.manifest else None
        return self.summary.dataset_rows if of_manifest is None else of_manifest

    @property
    def verdict(self) -> Verdict:
        """Its state in a word."""
        return self._judgement[0]

    @property
    def sentence(self) -> str:
        """Its state, and what to do about it."""
        return self._judgement[1]

    @property
    def rows(self) -> int:
        """That have ended."""
        return self._ended.rows + self.grown[0]

    @property
    def errors(self) -> int:
        """Those of them that could not be decoded."""
        return self._ended.errors + self.grown[1]

    @property
    def totals(self) -> Totals:
        """Over every row in the shard's files, as its attempt was last saved."""
        if self.manifest is not None and self.verdict == "complete":
            return self.manifest.totals
        return self.last.summary.totals if self.last else Totals()

    @property
    def summary(self) -> RunSummary:
        """All attempts as one."""
        return combine((attempt.summary for attempt in self.attempts), self.totals)

    @property
    def total_rows(self) -> int | None:
        """Rows of its share: exact where `dataset_rows` is known, else as estimated last; None where nothing is known."""
        if self.verdict == "complete":
            return self.rows
        if self.dataset_rows is not None:
            return rows_of_share(self.shard, self.shards, self.dataset_rows)
        estimate = self._last_estimate
        return None if estimate is None or estimate.total_rows is None else max(estimate.total_rows, self.rows)

    @property
    def total_rows_estimated(self) -> bool:
        """Whether `total_rows` may be wrong."""
        if self.verdict == "complete" or self.dataset_rows is not None:
            return False
        return self._last_estimate is not None and self._last_estimate.total_rows_estimated

    @property
    def now(self) -> Progress:
        """The last snapshot of a shard that is at work, else one of all its attempts."""
        last, at_work = self.last, self.verdict in AT_WORK
        if at_work and last is not None and last.now.seconds:
            now = last.now
        else:
            summary = self.summary
            now = Progress(
                **summary.counters,
                seconds=summary.seconds,
                tokens_per_second=summary.tokens_per_second,
                acceptance_rate=summary.acceptance_rate,
                mean_acceptance_length=summary.mean_acceptance_length,
                num_speculative_tokens=summary.num_speculative_tokens,
                fraction_of_ceiling=summary.fraction_of_ceiling,
                target_only_tokens_per_second=summary.target_only_tokens_per_second,
                waiting=last.now.waiting if last is not None and at_work else "",
            )
        return replace(
            now,
            rows=self.rows,
            total_rows=self.total_rows,
            total_rows_estimated=self.total_rows_estimated,
            errors=self.errors,
            skipped=last.summary.skipped if last else 0,
            publish=self.publish,
        )

    @property
    def publish(self) -> PublishState | None:
        """How far publishing is; None where results are not published, or it was not saved yet."""
        return self.last.now.publish if self.last else None

    def outcome_of(self, attempt: Attempt) -> str:
        """How one of the attempts ended. A killed one could not save that: its progress file still has it as running."""
        killed = attempt.outcome == "running" and (attempt is not self.last or self.verdict not in AT_WORK)
        return "killed" if killed else attempt.outcome

    @property
    def _judgement(self) -> Judgement:
        return judge(self.last, self.manifest, locked=self.locked, age_seconds=self.age_seconds or 0.0)

    @property
    def _last_estimate(self) -> Progress | None:
        return next((one.now for one in reversed(self.attempts) if one.now.total_rows is not None), None)

    @property
    def _ended(self) -> Ended:
        """Its last count."""
        return (self.last.summary.ended if self.last else None) or Ended()
