"""An append-only file of JSON lines that survives kills, power cuts and full disks."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from specbatch.errors import ResultsError
from specbatch.results.storage.durable import open_plain, results_error, sync_directory

_READ_BYTES = 1 << 20


class Appender:
    """Appends lines to one file. Opening it reads what is there, once: every whole line goes to `on_line`.

    `on_line(line)` gets each line without its newline, in order, and raises ValueError where the line is not a row. What a
    dying writer left at the end, a line without a newline or lines that are no rows, is cut off, but never below `synced`: what was
    on the disk does not vanish by itself. One thread writes, and whoever makes an Appender sees to it that no other process
    does (`locking`).

    Args:
        path: the file; a symbolic link or anything else that is no plain file is refused.
        on_line: see above.
        synced: bytes that are known to have been on the disk.
        fsync_seconds, fsync_rows: when rows are synced.
        clock: seconds.

    Attributes:
        bytes, rows: the file's length as of now.
        synced_bytes: so much of it is on the disk.
        cut: bytes cut off on opening.
        damaged: a write or sync has failed so that what the disk holds is not known; nothing more can be appended.

    Raises:
        ResultsError: a line in the file's middle is damaged, or an operation on it failed.
    """

    def __init__(
        self,
        path: Path,
        *,
        on_line: Callable[[bytes], None],
        synced: int = 0,
        fsync_seconds: float = 5.0,
        fsync_rows: int = 256,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self.bytes = 0
        self.rows = 0
        self.cut = 0
        self.synced_bytes = 0
        self._fsync_seconds = fsync_seconds
        self._fsync_rows = fsync_rows
        self._clock = clock
        self._digest = hashlib.sha256()
        self._unsynced_rows = 0
        self._unsynced_since = 0.0
        self.damaged = False
        try:
            self._descriptor = open_plain(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        except OSError as error:
            raise results_error(error, path, "open the file for appending") from error
        try:
            self._identity = _identity(os.fstat(self._descriptor))
            self._read(on_line, synced)
            os.fsync(self._descriptor)  # lines that only the page cache held count from here on
            sync_directory(path.parent)
            self.synced_bytes = self.bytes
        except OSError as error:
            self._release()
            raise results_error(error, path, "read the file back") from error
        except BaseException:
            self._release()
            raise

    @property
    def sha256(self) -> str:
        """The hash of the whole file as of now, in hex."""
        return self._digest.hexdigest()

    def append(self, line: bytes) -> None:
        """Appends a line, which ends with its newline, and syncs when that is due.

        Raises:
            ResultsError: it could not be written; the file is as it was before.
        """
        assert line.endswith(b"\n")
        if self.damaged:
            raise ResultsError(
                "an earlier write failed, and what the disk holds is not known",
                where=str(self.path),
                remedy="start again: the file is then read back, and finished rows are kept",
            )
        try:
            self._write(line)
        except OSError as error:
            self._take_back()
            raise results_error(error, self.path, "append a row") from error
        self._digest.update(line)
        self.bytes += len(line)
        self.rows += 1
        if not self._unsynced_rows:
            self._unsynced_since = self._clock()
        self._unsynced_rows += 1
        self.maybe_sync()

    def maybe_sync(self) -> None:
        """Syncs if enough rows or seconds have gone by since a row was last left unsynced."""
        if self._unsynced_rows and (
            self._unsynced_rows >= self._fsync_rows or self._clock() - self._unsynced_since >= self._fsync_seconds
        ):
            self.sync()

    def sync(self) -> None:
        """Everything appended is on the disk when this returns."""
        if not self._unsynced_rows:
            return
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            self.damaged = True  # after a failed fsync the kernel may have dropped the pages
            raise results_error(error, self.path, "sync the file to disk") from error
        self._unsynced_rows = 0
        self.synced_bytes = self.bytes

    def check_whole(self) -> None:
        """Finds that the file by this name is still the one that was written, and holds just what was; also after `close`.

        Raises:
            ResultsError: somebody else removed, replaced, cut or added to it.
        """
        try:
            found = self.path.lstat()
        except FileNotFoundError:
            raise _strange(self.path, "it was removed while the run wrote it") from None
        except OSError as error:
            raise results_error(error, self.path, "look at the file") from error
        if _identity(found) != self._identity:
            raise _strange(self.path, "it was replaced by another file while the run wrote it")
        check_size(self.path, found, self.bytes)

    def close(self) -> None:
        """Syncs and lets go of the file; a second call does nothing."""
        if self._descriptor < 0:
            return
        try:
            if not self.damaged:
                self.sync()
        finally:
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _release(self) -> None:
        os.close(self._descriptor)
        self._descriptor = -1

    def _write(self, line: bytes) -> None:
        view = memoryview(line)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def _take_back(self) -> None:
        try:
            os.ftruncate(self._descriptor, self.bytes)
        except OSError:
            self.damaged = True

    def _read(self, on_line: Callable[[bytes], None], synced: int) -> None:
        size = os.fstat(self._descriptor).st_size
        bad_at = 0  # the number of the first line that is no row
        with io.BufferedReader(io.FileIO(self._descriptor, closefd=False), _READ_BYTES) as file:
            for number, line in enumerate(file, start=1):
                try:
                    if not line.endswith(b"\n"):
                        raise ValueError("no newline")  # noqa: TRY301  # a torn line is one more kind of line that is no row
                    on_line(line[:-1])
                except ValueError:
                    bad_at = bad_at or number
                    self.cut += len(line)
                    continue
                if bad_at:
                    raise ResultsError(
                        f"line {bad_at} is damaged, and good lines follow it: no writer of ours leaves that behind",
                        where=str(self.path),
                        remedy="check the disk; delete that line, and its row is decoded again, or start over with --fresh",
                    )
                self._digest.update(line)
                self.bytes += len(line)
                self.rows += 1
        if self.bytes < synced:
            raise ResultsError(
                f"it was whole to byte {synced:,}, and now its rows end at byte {self.bytes:,} of {size:,}: "
                "no writer of ours leaves that behind",
                where=str(self.path),
                remedy="check the disk, and put the file back from a backup or from where it was published; where it is lost, delete "
                "it: its rows are then decoded again, or start over with --fresh",
            )
        if self.cut:
            os.ftruncate(self._descriptor, self.bytes)


def check_size(path: Path, found: os.stat_result, size: int) -> None:
    """ResultsError where a file is not a plain one of that size."""
    if not stat.S_ISREG(found.st_mode):
        raise _strange(path, "it is no plain file")
    if found.st_size != size:
        raise _strange(path, f"it has {found.st_size:,} bytes, and the run wrote {size:,}")


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _strange(path: Path, what: str) -> ResultsError:
    return ResultsError(
        f"{what}: the run is not called complete",
        where=str(path),
        remedy="let nothing else write there, then start again: rows that are whole are kept, what is lost is decoded again",
    )
