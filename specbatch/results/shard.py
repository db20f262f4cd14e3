"""One shard's results: what is finished already, and the files that finished rows are appended to."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from specbatch.errors import ResultsError
from specbatch.results.durable import make_directory, remove_leftovers, results_error, sync_directory
from specbatch.results.identity import WAYS_OUT, Identity, claim, remove_old
from specbatch.results.keys import IndexSet, KeySet
from specbatch.results.layout import SUCCESS, ShardFile
from specbatch.results.manifest import FileEntry
from specbatch.results.parts import PartPolicy, Parts
from specbatch.results.process import Process
from specbatch.results.progress import Attempt, Outcome, read_attempts, write_attempts
from specbatch.results.rows import ErrorRow, ResultRow, resume_key
from specbatch.results.scan import ScannedRow, scan_result
from specbatch.results.summary import RunSummary
from specbatch.results.timeline import Timeline
from specbatch.results.totals import Totals
from specbatch.results.wire import decode_error, encode_error, encode_result


class ShardResults:
    """Appends the rows of one shard; made by `open`, used by one thread.

    Attributes:
        run_dir, shard, shards, identity: as given.
        found: totals over the rows that were there at the start.
        duplicates: rows found there once more than once: a volume was lost and restored; they count once.
        written: totals over the rows written since.
    """

    def __init__(self, run_dir: Path, shard: int, shards: int, identity: Identity, policy: PartPolicy) -> None:
        self.run_dir = run_dir
        self.shard = shard
        self.shards = shards
        self.identity = identity
        self.found = Totals()
        self.written = Totals()
        self.duplicates = 0
        self._keys = KeySet()
        self._indices = IndexSet()
        self._published = True  # whether _SUCCESS or a manifest may stand there
        self._started_at = time.time()
        self._current: Attempt | None = None
        self._earlier = tuple(
            replace(attempt, outcome="killed") if attempt.outcome == "running" else attempt
            for attempt in read_attempts(run_dir, shard, shards)
        )
        self._part = Parts(run_dir, ShardFile("part", shard, shards), self._on_result, policy)
        try:
            self._errors = Parts(run_dir, ShardFile("errors", shard, shards), self._on_error, policy)
        except BaseException:
            self._part.close()
            raise
        remove_leftovers(run_dir, f"-{shard:05d}-of-{shards:05d}.json")

    @classmethod
    def open(
        cls,
        run_dir: str | Path,
        *,
        shard: int = 0,
        shards: int = 1,
        identity: Identity,
        policy: PartPolicy | None = None,
        fresh: bool = False,
    ) -> ShardResults:
        """Makes or reopens the shard's files and finds which rows are finished.

        Args:
            run_dir: the run's directory (`layout.run_directory`).
            shard: which shard, from 0.
            shards: out of how many.
            identity: what the run is; a directory of another run is refused.
            policy: how safely rows are written, and when a part is closed.
            fresh: removes what an earlier run left there.

        Raises:
            ResultsError: not writable, another writer, another run's directory, or damaged files.
        """
        directory = Path(run_dir)
        make_directory(directory)
        if fresh:
            remove_old(directory, shard, shards)
        claim(directory, ShardFile("identity", shard, shards), identity)
        return cls(directory, shard, shards, identity, policy or PartPolicy())

    @property
    def totals(self) -> Totals:
        """Over every row of the shard: found and written."""
        return self.found + self.written

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Earlier attempts, and this one as last saved."""
        return (*self._earlier, self._current) if self._current else self._earlier

    @property
    def files(self) -> tuple[FileEntry, ...]:
        """Every file of rows as of now, for the manifest."""
        return (*self._part.entries, *self._errors.entries)

    def finished(self, row_id: str, fingerprint: str, index: int) -> bool:
        """Whether the row had ended, in results or errors, when the shard was opened.

        Raises:
            ResultsError: another row had ended at its index: the dataset is not the one that the results are of.
        """
        if resume_key(row_id, fingerprint) in self._keys:
            return True
        if index in self._indices:
            raise ResultsError(
                f"the results hold another row {index} (counted from 0) than the dataset does now: it has changed since",
                where=str(self.run_dir),
                remedy=f"put the old dataset back, or {WAYS_OUT}",
            )
        return False

    def write(self, row: ResultRow) -> None:
        """Appends a finished row.

        Raises:
            ResultsError: it could not be written; the file is as before.
        """
        self._withdraw()
        self._part.append(encode_result(row))
        self.written.add_result(row)
        self._errors.maybe_sync()

    def write_error(self, row: ErrorRow) -> None:
        """Appends a row that could not be decoded; errors as `write`."""
        self._withdraw()
        self._errors.append(encode_error(row))
        self.written.add_error(row)
        self._part.maybe_sync()

    def maybe_sync(self) -> None:
        """Syncs what is due: call it every second or so while no rows finish."""
        self._part.maybe_sync()
        self._errors.maybe_sync()

    def sync(self) -> None:
        """Everything written is on the disk when this returns."""
        self._part.sync()
        self._errors.sync()

    def save_progress(
        self,
        summary: RunSummary,
        timeline: Timeline,
        outcome: Outcome = "running",
        now: Mapping[str, Any] | None = None,
        reason: str = "",
    ) -> None:
        """Rewrites the progress file: every few seconds, and with the outcome at the end, before the manifest.

        `now` is the last look at the run as plain data, `reason` why it failed, both for `specbatch status`.
        """
        self._current = Attempt(
            number=len(self._earlier) + 1,
            started_at=self._started_at,
            updated_at=time.time(),
            outcome=outcome,
            summary=summary,
            timeline=timeline.samples,
            now=now or {},
            process=Process.current(),
            reason=reason,
        )
        write_attempts(self.run_dir, self.shard, self.shards, self.attempts)

    def close(self) -> None:
        """Syncs and closes the files, and lets go of them; a second call does nothing."""
        try:
            self._part.close()
        finally:
            self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _on_result(self, line: bytes) -> None:
        row = scan_result(line)
        if self._is_new(row):
            self.found.add_result(row)

    def _on_error(self, line: bytes) -> None:
        row = decode_error(line)
        if self._is_new(row):
            self.found.add_error(row)

    def _is_new(self, row: ScannedRow | ResultRow | ErrorRow) -> bool:
        if row.index < 0:
            raise ValueError("an index counts from 0")
        new = self._keys.add(resume_key(row.id, row.fingerprint))
        self._indices.add(row.index)
        self.duplicates += not new
        return new

    def _withdraw(self) -> None:
        """Before the first row of this attempt: what says that the shard is complete must go."""
        if not self._published:
            return
        stale = [self.run_dir / SUCCESS, self.run_dir / ShardFile("manifest", self.shard, self.shards).name]
        try:
            for path in stale:
                path.unlink(missing_ok=True)
            sync_directory(self.run_dir)
        except OSError as error:
            raise results_error(error, self.run_dir, "withdraw the old manifest") from error
        self._published = False
