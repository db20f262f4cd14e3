"""The files that a shard's rows of one kind go into, one after the other: a closed file never changes again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from specbatch.errors import ResultsError
from specbatch.results.layout import NEW_COUNT, ShardFile, shard_files
from specbatch.results.manifest import FileEntry
from specbatch.results.storage.appender import Appender
from specbatch.results.storage.locking import WriterLock

_FILES_REMEMBERED = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class PartPolicy:
    """How safely rows are written, and when a file is closed.

    Args:
        fsync_seconds: a row is on the disk at most this long after it was written, given calls of `maybe_sync`.
        fsync_rows: and at most this many rows are not.
        max_bytes: a file that has grown to so much is closed.
        max_seconds: and so is one whose first row is this old; never by age where None. Then, too, an earlier attempt's last file is
            not continued: it may have been published.
        first_sequence: number of the first file to be begun, where counting on is not safe: files may be published that are not here.
        on_closed: called for every file that is closed, in order, also for those found closed.
        on_cut: told what was cut off the end of a file that was found, or is gone.
    """

    fsync_seconds: float = 5.0
    fsync_rows: int = 256
    max_bytes: int = 256 << 20
    max_seconds: float | None = None
    first_sequence: int = 0
    on_closed: Callable[[FileEntry], None] = lambda _entry: None
    on_cut: Callable[[str], None] = lambda _line: None


class Parts:
    """Appends lines to the newest file of a kind; opening reads all of them, every line to `on_line` as in `Appender`.

    A file is synced before the next one is made, so only the newest can end in a torn line. The first file is locked as long as this
    lives, which keeps other writers from all of them. One thread writes.

    Args:
        run_dir: the run's directory.
        file: the first of the files.
        on_line: gets every line found; raises ValueError where it is no row.
        policy: see there.
        synced: name -> bytes that are known to have been on the disk.
        clock: seconds.

    Raises:
        ResultsError: another process writes them, one is damaged or missing, or an operation failed.
    """

    def __init__(
        self,
        run_dir: Path,
        file: ShardFile,
        on_line: Callable[[bytes], None],
        policy: PartPolicy,
        clock: Callable[[], float] = time.monotonic,
        *,
        synced: Mapping[str, int] | None = None,
    ) -> None:
        assert file.sequence == 0
        self._run_dir = run_dir
        self._first = file
        self._policy = policy
        self._synced = synced or {}
        self._written: list[Appender] = []  # also those that are closed
        self._clock = clock
        self._closed: list[FileEntry] = []
        self._next = 0  # the number of the next file
        self._begun_at = clock()
        self._current: Appender | None = None
        self._lock = WriterLock(run_dir / file.name)
        try:
            self._open_all(on_line)
        except BaseException:
            self._release()
            raise

    @property
    def entries(self) -> tuple[FileEntry, ...]:
        """Every file as of now."""
        return (*self._closed, *([_entry(self._current)] if self._current else ()))

    @property
    def size(self) -> int:
        """Bytes of all of them as of now."""
        return sum(entry.bytes for entry in self._closed) + (self._current.bytes if self._current else 0)

    @property
    def synced(self) -> dict[str, int]:
        """name -> bytes on the disk, of the newest files."""
        return {one.path.name: one.synced_bytes for one in self._written[-_FILES_REMEMBERED:]}

    def check_whole(self) -> None:
        """Every file is still there as it was written; errors as `Appender.check_whole`."""
        for appender in self._written:
            appender.check_whole()

    def append(self, line: bytes) -> None:
        """Appends a line, which ends with its newline, to the newest file, or to a new one where that is closed.

        Raises:
            ResultsError: it could not be written; the files are as before.
        """
        if self._current is None:
            self._current = self._appender(self._next, _no_line)
        if not self._current.rows:
            self._begun_at = self._clock()
        self._current.append(line)
        self._close_if_due()

    def maybe_sync(self) -> None:
        """Syncs and closes what is due."""
        if self._current is not None:
            self._current.maybe_sync()
            self._close_if_due()

    def sync(self) -> None:
        """Everything appended is on the disk when this returns."""
        if self._current is not None:
            self._current.sync()

    def close(self) -> None:
        """Syncs and closes the newest file, and lets go of the lock; a second call does nothing."""
        try:
            if self._current is not None and not self._current.damaged:
                self._close_current()
        finally:
            self._release()

    def _open_all(self, on_line: Callable[[bytes], None]) -> None:
        numbers = [
            file.sequence for file in shard_files(self._run_dir, self._first.kind)
            if (file.shard, file.shards) == (self._first.shard, self._first.shards)
        ]  # fmt: skip
        for before, number in pairwise([-1, *numbers]):
            if number == before + 1 or number >= NEW_COUNT:
                continue
            raise ResultsError(
                f"{self._name(before + 1)} is missing, and later files of the shard are there",
                where=str(self._run_dir),
                remedy="put it back (from a backup, or from where it was published), or start over with --fresh",
            )
        for number in numbers:
            last = number == numbers[-1]
            self._current = self._appender(number, on_line, self._known(number))
            if not last or (self._policy.max_seconds is not None and self._current.rows):
                self._close_current()
        self._close_if_due()
        if self._next < self._policy.first_sequence:
            self._next = self._policy.first_sequence
            if self._current is not None:
                self._close_current()

    def _appender(self, number: int, on_line: Callable[[bytes], None], synced: int = 0) -> Appender:
        policy, name = self._policy, self._name(number)
        appender = Appender(
            self._run_dir / name,
            on_line=on_line,
            synced=synced,
            fsync_seconds=policy.fsync_seconds,
            fsync_rows=policy.fsync_rows,
            clock=self._clock,
        )
        if appender.cut:
            policy.on_cut(
                f"{name}: {appender.cut:,} bytes after its last whole row, which a killed writer left, were cut off"
            )
        self._written.append(appender)
        self._next = number + 1
        return appender

    def _known(self, number: int) -> int:
        """Bytes of a file that must be there. One that is gone is a loss, which is told: its rows are decoded again."""
        name = self._name(number)
        known = self._synced.get(name, 0)
        if known and not (self._run_dir / name).stat().st_size:
            self._policy.on_cut(f"{name}: {known:,} bytes that were written are gone: their rows are decoded again")
            return 0
        return known

    def _name(self, number: int) -> str:
        return ShardFile(self._first.kind, self._first.shard, self._first.shards, number).name

    def _close_if_due(self) -> None:
        current, limit = self._current, self._policy.max_seconds
        if current is None or not current.rows:
            return
        if current.bytes >= self._policy.max_bytes or (limit is not None and self._clock() - self._begun_at >= limit):
            self._close_current()

    def _close_current(self) -> None:
        assert self._current is not None
        self._current.close()
        entry = _entry(self._current)
        self._current = None
        self._closed.append(entry)
        self._policy.on_closed(entry)

    def _release(self) -> None:
        try:
            if self._current is not None:
                self._current.close()
        finally:
            self._lock.release()


def _entry(file: Appender) -> FileEntry:
    return FileEntry(name=file.path.name, rows=file.rows, bytes=file.bytes, sha256=file.sha256)


def _no_line(line: bytes) -> None:
    """A new file has none: what stands in it was put there by somebody else."""
    raise ValueError(line)
