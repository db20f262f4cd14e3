"""One writer at a time: a lock on a file that goes when its process goes, however it goes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from pathlib import Path

from specbatch.errors import ResultsError
from specbatch.results.storage.durable import open_plain, results_error

_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}
_POLL_SECONDS = 0.01


class WriterLock:
    """Holds a file, made if need be, as its only writer until `release`.

    Raises:
        ResultsError: another process holds it, or it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._descriptor = _open_locked(path)
        except OSError as error:
            raise results_error(error, path, "open the file for appending") from error

    def release(self) -> None:
        """Lets go; a second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _open_locked(path: Path) -> int:
    while True:
        descriptor = open_plain(path, os.O_RDWR | os.O_CREAT)
        try:
            lock(descriptor, path)
            # Between open and lock, --fresh of another process may have removed the file: then this is not the one by that name.
            if _same_file(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def lock(descriptor: int, path: Path) -> None:
    """Takes the writer lock of an open file, at once or not at all; does without where the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ResultsError(
            "another process is writing this file",
            where=str(path),
            remedy="wait for that run to end or stop it, or set another results.dir or metadata.name",
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def lock_within(descriptor: int, kind: int, seconds: float) -> bool:
    """Takes a lock (fcntl.LOCK_SH or LOCK_EX) within so many seconds; whether it did. True where the file system has no locks."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            return True
        else:
            return True


def unlock(descriptor: int) -> None:
    """Lets go of a lock without closing the file."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def _same_file(descriptor: int, path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False
