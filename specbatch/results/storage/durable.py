"""Writing files so that a power cut leaves the old content or the new, and saying what to do when a write fails."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path

from specbatch.errors import ResultsError

_LARGEST_BYTES = 256 << 20  # a manifest of a million files has less
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_TEMPORARY = ".tmp"
_FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM}


def results_error(error: OSError, path: Path, doing: str) -> ResultsError:
    """The error to show for a failed operation on a results file: what was being done, why it failed, the way out."""
    reason = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror or type(error).__name__
    if error.errno in _FULL:
        remedy = "free space on that volume (or raise the quota) and start again: finished rows are kept"
    elif error.errno in _FORBIDDEN:
        remedy = "make the directory writable for this user, or set results.dir to one that is"
    elif error.errno in {errno.ELOOP, errno.EINVAL, errno.ENXIO, errno.EISDIR}:
        remedy = "only plain files are read and written there: move away what stands under that name, then start again"
    else:
        remedy = "check the volume, then start again: finished rows are kept"
    return ResultsError(f"cannot {doing}: {reason}", where=str(path), remedy=remedy)


def make_directory(path: Path) -> None:
    """Makes a directory and its parents, so that they outlive a power cut; ResultsError where that fails."""
    try:
        path = path.absolute()
        made = {folder.parent for folder in (path, *path.parents) if not folder.exists()}
        path.mkdir(parents=True, exist_ok=True)
        device = path.stat().st_dev
        for parent in path.parents:
            # Also of those that were there: whoever made them may have been killed before this.
            if parent in made:
                sync_directory(parent)
            elif parent.stat().st_dev == device:
                with contextlib.suppress(PermissionError):  # one that may not even be read was not made by us
                    sync_directory(parent)
    except OSError as error:
        raise results_error(error, path, "make the results directory") from error


def sync_directory(path: Path) -> None:
    """Makes the directory's entries outlive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_if_possible(descriptor)
    finally:
        os.close(descriptor)


def sync_if_possible(descriptor: int) -> None:
    """Syncs a directory, or a file that is open for reading only."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync these: they are safe on the server, or nothing can be done.
        if error.errno not in {errno.EINVAL, errno.ENOTSUP, errno.EBADF}:
            raise


def open_plain(path: Path, flags: int) -> int:
    """Opens a file that must be a plain one: no FIFO, which would wait for ever, and to write no symbolic link, which could lead anywhere.

    Raises:
        OSError: it is none, or cannot be opened.
    """
    flags |= 0 if flags & os.O_ACCMODE == os.O_RDONLY else os.O_NOFOLLOW
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
    try:
        _refuse_special(os.fstat(descriptor))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def read_plain(path: Path) -> bytes:
    """A small file's bytes; errors as `open_plain`, and where it is so large that it is none of ours."""
    found = path.stat()
    _refuse_special(found)
    if found.st_size > _LARGEST_BYTES:
        raise OSError(errno.EINVAL, f"it has {found.st_size} bytes, far more than such a file can have")
    return path.read_bytes()


def _refuse_special(found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is no plain file")


def write_atomic(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replaces a file's content in one step; with `durable` it is on the disk when this returns.

    Raises:
        ResultsError: the file could not be written; the old content is still there.
    """
    temporary = temporary_name(path)
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
        if durable:
            sync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise results_error(error, path, "write the file") from error


def temporary_name(path: Path) -> Path:
    """A name beside the file, which no other writer takes: on a shared volume the process ids of two pods may be the same."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{_TEMPORARY}")


def remove_leftovers(run_dir: Path, ending: str) -> None:
    """Removes what a kill left of `write_atomic` for names with this ending; for their only writer."""
    with contextlib.suppress(OSError):  # they take room and do no harm
        for path in run_dir.glob(f".*{ending}.*{_TEMPORARY}"):
            path.unlink(missing_ok=True)
