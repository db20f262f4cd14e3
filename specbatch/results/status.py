"""A run from outside, while it goes on: what its small files say, and a verdict for each shard.

Reads only, takes no lock, and never a row: files may be half-written, or gone between listing and reading.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from specbatch.errors import ResultsError
from specbatch.results.folder import Folder
from specbatch.results.layout import SUCCESS, ShardFile, parse_names, shard_files
from specbatch.results.look import published
from specbatch.results.manifest import Manifest
from specbatch.results.process import seen_locked
from specbatch.results.progress import Attempt, read_attempts
from specbatch.results.publish_state import PublishState
from specbatch.results.splits import Split, read_history
from specbatch.results.summary import RunSummary, combine, span
from specbatch.results.totals import Totals
from specbatch.results.typed import load_json

Verdict = Literal["complete", "running", "starting", "waiting", "incomplete", "stopped", "failed", "killed"]
AT_WORK: frozenset[Verdict] = frozenset({"running", "starting"})
_SILENT_SECONDS = 60.0  # the writer says a word every two seconds
_RUNS_NAMED = 5
_REASON_CHARS = 300
_AGAIN = "start the same command again"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardStatus:
    """One shard at `clock`, a Unix time; `locked` whether the kernel shows a writer of its rows."""

    shard: int
    shards: int
    clock: float
    attempts: Sequence[Attempt] = ()
    manifest: Manifest | None = None
    locked: bool = False

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
        """Since the shard's last word. Clocks of two machines differ: never less than nothing."""
        return max(0.0, self.clock - self.last.updated_at) if self.last else None

    @property
    def verdict(self) -> Verdict:
        """How it stands, in a word."""
        return self._judged()[0]

    @property
    def sentence(self) -> str:
        """How it stands, and what to do about it."""
        return self._judged()[1]

    @property
    def totals(self) -> Totals:
        """Over every row of the shard that has ended, as of the last word."""
        if self.manifest is not None and self.verdict == "complete":
            return self.manifest.totals
        return self.last.summary.totals if self.last else Totals()

    @property
    def summary(self) -> RunSummary:
        """All attempts as one."""
        return combine((attempt.summary for attempt in self.attempts), self.totals)

    @property
    def total_rows(self) -> int | None:
        """Rows that the shard's files will hold, None where that is not known yet: its share, unless the number of shards changed."""
        if self.verdict == "complete":
            return self.totals.rows
        known = self.manifest.dataset_rows if self.manifest else None
        if known is not None:
            share: int | None = max(0, -(-(known - self.shard) // self.shards))
        else:
            looks = (attempt.now.get("total_rows") for attempt in reversed(self.attempts))
            share = next((rows for rows in looks if rows is not None), None)
        return None if share is None else share + self._moved

    @property
    def now(self) -> Mapping[str, Any]:
        """The fields of runner.progress.Progress: the last look while somebody is at work, and over all attempts when not."""
        summary, last = self.summary, self.last
        look: dict[str, Any] = {
            "seconds": summary.seconds,
            "completion_tokens": summary.completion_tokens,
            "tokens_per_second": summary.tokens_per_second,
            "acceptance_rate": summary.acceptance_rate,
            "mean_acceptance_length": summary.mean_acceptance_length,
            "num_speculative_tokens": summary.k_changes[-1][1] if summary.k_changes else 0,
            "eta_seconds": None,
            "fraction_of_ceiling": summary.fraction_of_ceiling,
            "phase_seconds": dict(summary.phase_seconds),
            "active": None,
        }
        if self.verdict in AT_WORK and last is not None:
            look |= last.now
        rows, errors, skipped = self.totals.rows, self.totals.errors, last.summary.skipped if last else 0
        return look | {"rows": rows, "total_rows": self.total_rows, "errors": errors, "skipped": skipped}

    @property
    def publish(self) -> PublishState | None:
        """How far publishing is; None where results are not published, or nothing is said of it."""
        return published(self.last.now) if self.last else None

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
            if self.manifest is not None and self.manifest.complete:
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
        if age < _SILENT_SECONDS:
            return ("running", "running") if last.now else ("starting", "starting: loading, nothing is decoded yet")
        if self.alive:
            return "running", f"running, but no word for {span(age)}: it may hang"
        return "killed", f"killed? no word for {span(age)}: unless it still runs, {_AGAIN}"

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


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """A run and the shards of its last split; `success` whether _SUCCESS is there, `before` the numbers of shards that it had."""

    name: str
    where: str
    success: bool
    shards: Sequence[ShardStatus]
    before: Sequence[int] = ()

    @property
    def complete(self) -> bool:
        """Whether every shard is."""
        return all(shard.verdict == "complete" for shard in self.shards)


def read_status(folder: Folder, clock: float) -> RunStatus:
    """The run in a folder at `clock`, the Unix time now. Of a published run the manifests tell.

    Raises:
        ResultsError: no run is there, or the folder cannot be reached.
    """
    names = folder.sizes()
    files = parse_names(names)
    if not files:
        raise no_run(folder)
    *before, count = read_history(folder, names)
    split = Split(count, len(before))
    shards = tuple(_shard(folder, names, shard, split, clock) for shard in range(count))
    manifest = next((one.manifest for one in shards if one.manifest), None)
    return RunStatus(
        name=manifest.name if manifest else folder.name,
        where=folder.uri,
        success=SUCCESS in names,
        shards=shards,
        before=before,
    )


def no_run(folder: Folder) -> ResultsError:
    """The error of a folder that holds no run; it names those one level below."""
    remedy = "name the directory that holds part-*.jsonl: results.dir and metadata.name of the spec, joined"
    if folder.local is not None and folder.local.is_dir():
        below = [path for path in sorted(folder.local.iterdir()) if path.is_dir() and any(shard_files(path))]
        if below:
            remedy = (
                f"name the run: {', '.join(map(str, below[:_RUNS_NAMED]))}{', ...' if len(below) > _RUNS_NAMED else ''}"
            )
    return ResultsError("no run is there", where=folder.uri, remedy=remedy)


def _shard(folder: Folder, names: Mapping[str, int], shard: int, split: Split, clock: float) -> ShardStatus:
    shards = split.shards
    manifest: Manifest | None = None
    attempts: tuple[Attempt, ...] = ()
    locked = False
    if (name := ShardFile("manifest", shard, shards).name) in names:
        with contextlib.suppress(ResultsError, ValueError, KeyError, TypeError, AttributeError):
            read = Manifest.from_json(load_json(folder.read(name)))
            manifest = read if read.generation == split.generation else None  # another one is of an old split
    if ShardFile("progress", shard, shards).name in names:
        attempts = read_attempts(folder, shard, shards)
    if folder.local is not None:
        locked = seen_locked(folder.local / ShardFile("part", shard, shards).name)
    recorded = tuple(manifest.attempts) if manifest else ()
    return ShardStatus(
        shard=shard, shards=shards, clock=clock, attempts=attempts or recorded, manifest=manifest, locked=locked
    )
