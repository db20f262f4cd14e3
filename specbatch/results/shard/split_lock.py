"""The lock that keeps processes of two splits out of one run: a writer of rows shares it, `specbatch reshard` holds it alone.

The list of the run's splits is the file that is locked, for it is never replaced: a line is added to it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from specbatch.errors import ResultsError
from specbatch.results.layout import SPLITS, shard_files
from specbatch.results.splits import check_split, damaged_list, decode_splits, encode_split, split_of_files
from specbatch.results.storage.durable import open_plain, results_error, sync_directory
from specbatch.results.storage.locking import lock_within, unlock
from specbatch.results.storage.process import seen_locked

_LARGEST_BYTES = 1 << 20  # seventy thousand splits
WAIT_SECONDS = 5.0  # for the other processes to let go
_POLL_SECONDS = 0.1


class SplitLock:
    """The list of a run's splits, open: `share` or `hold_alone`, and then nobody else changes it until `release`.

    Args:
        run_dir: the run's directory, which is there.

    Raises:
        ResultsError: the list cannot be opened.
    """

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._path = run_dir / SPLITS
        with self._explained("open the list of the run's splits"):
            self._descriptor = open_plain(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND)

    def share(self, shards: int, *, fresh: bool = False) -> None:
        """For a process that writes the rows of one shard of so many.

        Args:
            shards: into how many this process has the run split.
            fresh: the rows that are there do not count: another split may take the place of theirs.

        Raises:
            SplitError: the run is split into another number of shards.
            ResultsError: the run is being resharded; with `fresh`, another split is still written; or an operation failed.
        """
        while True:
            self._lock(fcntl.LOCK_SH)
            recorded, there = self._recorded(), self._split()
            if not fresh:
                check_split(str(self._run_dir), there, shards)
            if recorded == shards:
                with self._explained("read the list of the run's splits"):
                    os.fsync(self._descriptor)  # a line that only the page cache held counts from here on
                    sync_directory(self._run_dir)
                return
            self._unlock()
            if self._lock_alone_while(recorded):
                if self._recorded() == recorded:
                    self.change(shards)
                self._unlock()

    def hold_alone(self) -> int | None:
        """For a process that changes the split: no other one writes rows meanwhile. Returns into how many shards the run is split now.

        Raises:
            ResultsError: rows are still written, or an operation failed.
        """
        self._lock(fcntl.LOCK_EX)
        return self._split()

    def change(self, shards: int) -> None:
        """Splits the run into so many shards, in one step. For the process that holds the list alone.

        Raises:
            ResultsError: the list could not be written.
        """
        data = self._content()
        with self._explained("write the list of the run's splits"):
            os.ftruncate(self._descriptor, data.rfind(b"\n") + 1)  # without a line that a killed writer began
            os.write(self._descriptor, encode_split(shards))
            os.fsync(self._descriptor)
            sync_directory(self._run_dir)

    def release(self) -> None:
        """Lets go; a second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _lock(self, kind: int) -> None:
        with self._explained("lock the list of the run's splits"):
            locked = lock_within(self._descriptor, kind, WAIT_SECONDS)
        if not locked and kind == fcntl.LOCK_SH:
            raise ResultsError(
                "another process is changing the number of shards of this run",
                where=str(self._run_dir),
                remedy="start again when it has ended",
            )
        if not locked:
            raise self._still_written()

    def _unlock(self) -> None:
        with self._explained("unlock the list of the run's splits"):
            unlock(self._descriptor)

    def _lock_alone_while(self, recorded: int | None) -> bool:
        """Holds the list alone, or finds that another process has added a line meanwhile."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not lock_within(self._descriptor, fcntl.LOCK_EX, _POLL_SECONDS):
            if self._recorded() != recorded:
                return False
            if time.monotonic() > deadline:
                raise self._still_written()
        return True

    def _recorded(self) -> int | None:
        try:
            return next(reversed(decode_splits(self._content())), None)
        except ValueError as error:
            raise damaged_list(str(self._path), error) from error

    def _split(self) -> int | None:
        return self._recorded() or split_of_files(str(self._run_dir), [path.name for path in self._run_dir.iterdir()])

    def _content(self) -> bytes:
        with self._explained("read the list of the run's splits"):
            size = os.fstat(self._descriptor).st_size
            if size > _LARGEST_BYTES:
                raise damaged_list(str(self._path), ValueError(f"it has {size} bytes"))
            return os.pread(self._descriptor, size, 0)

    def _still_written(self) -> ResultsError:
        files = shard_files(self._run_dir, "part")
        seen = sorted({file.shard for file in files if seen_locked(self._run_dir / file.name)})
        who = f"shard{'s' * (len(seen) > 1)} {', '.join(map(str, seen[:5]))}" if seen else "a shard"
        return ResultsError(
            f"another process is writing {who} of this run, which is split into {self._split()}",
            where=str(self._run_dir),
            remedy="wait for that run to end, or stop it; then start again",
        )

    @contextlib.contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise results_error(error, self._path, doing) from error
