"""One shard's results: what is finished already, and the files that finished rows are appended to."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from specbatch.errors import ResultsError
from specbatch.results.appender import Appender
from specbatch.results.durable import make_directory, remove_leftovers, results_error, sync_directory
from specbatch.results.identity import Identity, claim, remove_old
from specbatch.results.keys import KeySet
from specbatch.results.layout import SUCCESS, ShardFile
from specbatch.results.manifest import FileEntry
from specbatch.results.progress import Attempt, Outcome, read_attempts, write_attempts
from specbatch.results.rows import ErrorRow, ResultRow, resume_key
from specbatch.results.summary import RunSummary
from specbatch.results.timeline import Timeline
from specbatch.results.totals import Totals
from specbatch.results.wire import decode_error, decode_result, encode_error, encode_result


class ShardResults:
    """Appends the rows of one shard; made by `open`, used by one thread.

    Attributes:
        run_dir, shard, shards, identity: as given.
        found: totals over the rows that were there at the start.
        written: totals over the rows written since.
    """

    def __init__(
        self, run_dir: Path, shard: int, shards: int, identity: Identity, *, fsync_seconds: float, fsync_rows: int
    ) -> None:
        self.run_dir = run_dir
        self.shard = shard
        self.shards = shards
        self.identity = identity
        self.found = Totals()
        self.written = Totals()
        self._keys = KeySet()
        self._published = True  # whether _SUCCESS or a manifest may stand there
        self._started_at = time.time()
        self._current: Attempt | None = None
        self._earlier = tuple(
            replace(attempt, outcome="killed") if attempt.outcome == "running" else attempt
            for attempt in read_attempts(run_dir, shard, shards)
        )
        self._part = self._appender("part", self._on_result, fsync_seconds, fsync_rows)
        try:
            self._errors = self._appender("errors", self._on_error, fsync_seconds, fsync_rows)
        except ResultsError:
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
        fsync_seconds: float = 5.0,
        fsync_rows: int = 256,
        fresh: bool = False,
    ) -> ShardResults:
        """Makes or reopens the shard's files and finds which rows are finished.

        Args:
            run_dir: the run's directory (`layout.run_directory`).
            shard: which shard, from 0.
            shards: out of how many.
            identity: what the run is; a directory of another run is refused.
            fsync_seconds: a row is on the disk at most this long after it was written, given calls of `maybe_sync`.
            fsync_rows: and at most this many rows are not.
            fresh: removes what an earlier run left there.

        Raises:
            ResultsError: not writable, another writer, another run's directory, or damaged files.
        """
        directory = Path(run_dir)
        make_directory(directory)
        if fresh:
            remove_old(directory, shard, shards)
        claim(directory, ShardFile("identity", shard, shards), identity)
        return cls(directory, shard, shards, identity, fsync_seconds=fsync_seconds, fsync_rows=fsync_rows)

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
        """Both files as of now, for the manifest."""
        return tuple(
            FileEntry(name=file.path.name, rows=file.rows, bytes=file.bytes, sha256=file.sha256)
            for file in (self._part, self._errors)
        )

    def finished(self, row_id: str, fingerprint: str) -> bool:
        """Whether the row had ended, in results or errors, when the shard was opened."""
        return resume_key(row_id, fingerprint) in self._keys

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

    def save_progress(self, summary: RunSummary, timeline: Timeline, outcome: Outcome = "running") -> None:
        """Rewrites the progress file: every few seconds, and with the outcome at the end, before the manifest."""
        self._current = Attempt(
            number=len(self._earlier) + 1,
            started_at=self._started_at,
            updated_at=time.time(),
            outcome=outcome,
            summary=summary,
            timeline=timeline.samples,
        )
        write_attempts(self.run_dir, self.shard, self.shards, self.attempts)

    def close(self) -> None:
        """Syncs and lets go of both files; a second call does nothing."""
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

    def _appender(self, kind: str, on_line: Callable[[bytes], None], fsync_seconds: float, fsync_rows: int) -> Appender:
        name = ShardFile("part" if kind == "part" else "errors", self.shard, self.shards).name
        return Appender(self.run_dir / name, on_line=on_line, fsync_seconds=fsync_seconds, fsync_rows=fsync_rows)

    def _on_result(self, line: bytes) -> None:
        row = decode_result(line)
        self._keys.add(resume_key(row.id, row.fingerprint))
        self.found.add_result(row)

    def _on_error(self, line: bytes) -> None:
        row = decode_error(line)
        self._keys.add(resume_key(row.id, row.fingerprint))
        self.found.add_error(row)

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
