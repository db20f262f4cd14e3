"""One shard of a run from outside: its numbers, a verdict in a word, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from msgspec.structs import replace

from specbatch.formatting import rough_duration
from specbatch.results.attempts import Attempt
from specbatch.results.ended import Ended
from specbatch.results.layout import rows_of_share
from specbatch.results.manifest import Manifest
from specbatch.results.protocol import Progress, PublishState
from specbatch.results.summary import RunSummary, combine
from specbatch.results.totals import Totals

Verdict = Literal["complete", "running", "starting", "waiting", "incomplete", "stopped", "failed", "killed"]
AT_WORK: frozenset[Verdict] = frozenset({"running", "starting"})
_SILENT_SECONDS = 60.0  # the writer says a word every two seconds
_REASON_CHARS = 300
_AGAIN = "start the same command again"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardStatus:
    """One shard at `clock`, a Unix time.

    Args:
        shard, shards: which, of how many.
        clock: now.
        attempts: at it.
        manifest: its own, of the last split.
        locked: whether the kernel shows a writer of its rows.
        grown: rows, and errors among them, that its files hold beyond what the last attempt has told.
        dataset_rows: of all shards, as far as any of them knows.
        generation: of the split.
    """

    shard: int
    shards: int
    clock: float
    attempts: Sequence[Attempt] = ()
    manifest: Manifest | None = None
    locked: bool = False
    grown: tuple[int, int] = (0, 0)
    dataset_rows: int | None = None
    generation: int = 0

    @property
    def last(self) -> Attempt | None:
        """The newest attempt."""
        return self.attempts[-1] if self.attempts else None

    @property
    def alive(self) -> bool | None:
        """Whether a writer is at work; None where it cannot be told from here."""
        if self.locked:
            return True
        return self.last.process.alive if self.last and self.last.process else None

    @property
    def age_seconds(self) -> float | None:
        """Since its attempt was last saved. Clocks of two machines differ: never less than nothing."""
        return max(0.0, self.clock - self.last.updated_at) if self.last else None

    @property
    def known_dataset_rows(self) -> int | None:
        """Rows of the whole dataset, as far as its own files tell."""
        of_manifest = self.manifest.dataset_rows if self.manifest else None
        return self.summary.dataset_rows if of_manifest is None else of_manifest

    @property
    def counted(self) -> bool:
        """Whether it has a count of its own in this split."""
        return self._ended is not None and self._ended.generation == self.generation

    @property
    def verdict(self) -> Verdict:
        """How it stands, in a word."""
        return self._judged()[0]

    @property
    def sentence(self) -> str:
        """How it stands, and what to do about it."""
        return self._judged()[1]

    @property
    def rows(self) -> int:
        """Of its share that have ended, in whatever file they are."""
        ended = self._ended
        if ended is None:  # an earlier version's
            return max(0, self.totals.rows - self._moved)
        return ended.rows + self.grown[0]

    @property
    def errors(self) -> int:
        """Those of them that could not be decoded."""
        return self.totals.errors if self._ended is None else self._ended.errors + self.grown[1]

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
        """Rows of its share: exact where `dataset_rows` is known, else as estimated last; None where nothing says."""
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
        """The last snapshot while somebody is at work, and one of all attempts when not."""
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
                num_speculative_tokens=summary.k_changes[-1][1] if summary.k_changes else 0,
                fraction_of_ceiling=summary.fraction_of_ceiling,
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
        """How far publishing is; None where results are not published, or nothing is said of it."""
        return self.last.now.publish if self.last else None

    def outcome_of(self, attempt: Attempt) -> str:
        """How one of the attempts ended. A killed one could not write so: its progress file still says that it runs."""
        killed = attempt.outcome == "running" and (attempt is not self.last or self.verdict not in AT_WORK)
        return "killed" if killed else attempt.outcome

    @property
    def _last_estimate(self) -> Progress | None:
        return next((one.now for one in reversed(self.attempts) if one.now.total_rows is not None), None)

    @property
    def _ended(self) -> Ended | None:
        """Its last count."""
        return self.last.summary.ended if self.last else None

    @property
    def _moved(self) -> int:
        """Rows of its files beyond its share."""
        return self.last.moved if self.last else self.manifest.moved if self.manifest else 0

    @property
    def _manifest_written(self) -> bool:
        """Whether the last attempt has written its manifest."""
        recorded = self.manifest.attempts[-1:] if self.manifest else ()
        return bool(recorded) and self.last is not None and recorded[0].number == self.last.number

    def _judged(self) -> tuple[Verdict, str]:
        last = self.last
        alive = last.process.alive if last and last.process else None
        if last is None or last.outcome != "running" or alive is False:
            if self.manifest is not None and self.manifest.complete and (last is None or last.outcome != "failed"):
                return "complete", self._said_of_complete(alive=bool(alive))
            if self.locked and not alive:
                return "starting", "starting: reading back what is finished"
        if last is None and self.manifest is None:
            return "waiting", "no word of it yet"
        if last is None:
            return "incomplete", f"incomplete: {_AGAIN}"
        age = self.age_seconds or 0.0
        return self._judged_running(last, age) if last.outcome == "running" else self._judged_ended(last, age)

    def _said_of_complete(self, *, alive: bool) -> str:
        if self.publish is None or not self.publish.pending_files:
            return "complete"
        return "complete: publishing the rest" if alive else f"complete, but not all published: {_AGAIN}"

    def _judged_running(self, last: Attempt, age: float) -> tuple[Verdict, str]:
        if self.alive is False:
            return "killed", f"killed: {_AGAIN}"
        if age < _SILENT_SECONDS and last.now.waiting:
            return "running", "running, and waits for the dataset"
        if age < _SILENT_SECONDS:
            return (
                ("running", "running")
                if last.now.seconds
                else ("starting", "starting: loading, nothing is decoded yet")
            )
        if self.alive:
            return "running", f"running, but no word for {rough_duration(age)}: it may hang"
        return "killed", f"killed? no word for {rough_duration(age)}: unless it still runs, {_AGAIN}"

    def _judged_ended(self, last: Attempt, age: float) -> tuple[Verdict, str]:
        match last.outcome:
            case "stopped":
                return "stopped", f"stopped: {_AGAIN}"
            case "failed":
                reason = " ".join(last.reason.partition("\n  remedy: ")[0].split())
                if len(reason) > _REASON_CHARS:
                    reason = f"{reason[: _REASON_CHARS - 1]}…"
                return "failed", f"failed: {reason or 'its own output says why'}"
            case "done" if not self._manifest_written and (
                self.alive or (self.alive is None and age < _SILENT_SECONDS)
            ):
                return "running", "decoded: publishing the rest" if self.publish else "decoded: writing the manifest"
            case "done":
                return "incomplete", f"decoded, but not ended in order: {_AGAIN}"
            case _:
                return "killed", f"killed: {_AGAIN}"
