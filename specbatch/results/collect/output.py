"""Outputs of collect: a file that appears whole or not at all, or a stream that nothing is sent to before all is known to be good."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from specbatch.errors import ResultsError
from specbatch.results.storage.durable import sync_directory

if TYPE_CHECKING:
    from typing_extensions import Buffer  # typing has none before Python 3.12

_BUFFER_BYTES = 1 << 20
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def explained(place: Path | str, doing: str) -> Iterator[None]:
    """Turns an OSError on a file of ours into an error with a remedy; BrokenPipeError passes through.

    Raises:
        ResultsError: for any other OSError.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        reason = error.strerror or type(error).__name__
        remedy = "name another file, in a directory that is there and that this user may write to"
        if error.errno in _FULL:
            remedy = "free space there, or name another place with -o and --tmp; the run's own files are untouched"
        raise ResultsError(f"cannot {doing}: {reason}", where=str(place), remedy=remedy) from error


class Output:
    """Where rows go: `open` makes it, `commit` shows them, `discard` forgets them.

    `discard` must be called in the end, whatever happens: be sure of that before `open`, since a signal may come at any moment.

    Args:
        target: a file to be replaced in one step, or a stream that gets everything at once on `commit`. A path to a pipe or a
            device is such a stream.
        tmp: for streams: where their rows wait.

    Attributes:
        file: what to write to, once it is open; it raises ResultsError where that fails.
    """

    file: io.BufferedWriter

    def __init__(self, target: Path | BinaryIO, tmp: Path) -> None:
        self.place: Path | str = target if isinstance(target, Path) else "standard output"
        self._target = target
        self._tmp = tmp
        self._stream: BinaryIO | io.FileIO | None = None
        self._path: Path | None = None
        self._temporary: Path | None = None
        self._raw: _Raw | None = None

    def open(self) -> None:
        """Makes the file, or a temporary one for what goes to a stream.

        Raises:
            ResultsError: it cannot be made.
        """
        target = self._target
        with explained(self.place, "write the file"):
            if not isinstance(target, Path):
                self._stream = target
            elif target.is_dir():
                raise IsADirectoryError(errno.EISDIR, "it is a directory")
            elif target.exists() and not target.is_file():
                self._stream = io.FileIO(target, "w")
            else:
                self._path = target.resolve()  # what a link names is replaced, not the link
                self._temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}.tmp")
                self._raw = _Raw(self._temporary, "w+")
        if self._raw is None:
            with (
                explained(self._tmp, "write a temporary file"),
                tempfile.TemporaryFile(dir=self._tmp, buffering=0) as nameless,
            ):
                self._raw = _Raw(os.dup(nameless.fileno()), "r+")
        self._raw.place = self.place if self._path else self._tmp
        self.file = io.BufferedWriter(self._raw, _BUFFER_BYTES)

    def commit(self) -> None:
        """Everything was written and is right: it becomes visible, durably.

        Raises:
            ResultsError: the rest could not be written; nothing is visible.
            BrokenPipeError: the stream's reader went away.
        """
        assert self._raw is not None, "open comes first"
        self.file.flush()
        with explained(self.place, "write the file"):
            if self._temporary and self._path:
                os.fsync(self._raw.fileno())
                self._temporary.replace(self._path)
                self._temporary = None
                sync_directory(self._path.parent)
                return
            self._raw.seek(0)
            assert self._stream is not None
            while data := self._raw.read(_BUFFER_BYTES):
                _write_all(self._stream, data)
            self._stream.flush()

    def discard(self) -> None:
        """Removes what was not committed; a second call does nothing."""
        # A full disk fails once more; what was never opened has no file.
        with contextlib.suppress(OSError, ResultsError, AttributeError):
            self.file.close()
        for file in (self._raw, self._stream if isinstance(self._target, Path) else None):
            if file:
                file.close()
        if self._temporary:
            with contextlib.suppress(OSError):
                self._temporary.unlink()
            self._temporary = None


class _Raw(io.FileIO):
    """A file whose failing writes raise an error with a remedy."""

    place: Path | str = ""

    def write(self, data: Buffer, /) -> int:
        with explained(self.place, "write the file"):
            return super().write(data)


def _write_all(stream: BinaryIO | io.FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[stream.write(view) :]
