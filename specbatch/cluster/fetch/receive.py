"""The receiving end of specbatch.results.collect.send: writes the files of a run as they arrive, and resumes after lost connections."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, Self

from specbatch.backoff import Backoff
from specbatch.errors import ClusterError, ResultsError
from specbatch.results.collect.output import explained

_FAILURES = 6  # in a row, without a byte in between
_HEADER_BYTES = 1 << 16
_BACKOFF = Backoff(first=1.0, longest=8.0)
_OTHER_VERSION = "is the image's specbatch of this version?"
_FATAL = {400, 401, 403, 422}


class Receiver:
    """Writes files into a folder as they arrive; a `with` closes the open one at its end.

    Args:
        folder: an empty folder.

    Attributes:
        done: whether everything has arrived.
        received: bytes of files so far.
        error, beside: the error that was sent in place of files, and the folders that exist beside.
        denied: whether the files exist and may not be read.
    """

    def __init__(self, folder: Path) -> None:
        self.done = False
        self.received = 0
        self.error = ""
        self.beside: Sequence[str] = ()
        self.denied = False
        self._folder = folder
        self._header = bytearray()
        self._name = ""
        self._at = self._left = 0
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.lost()

    @property
    def position(self) -> tuple[str, int] | None:
        """The file and the offset to resume at; None for the beginning."""
        return (self._name, self._at) if self._name else None

    def lost(self) -> None:
        """Resets after a lost connection; the next chunk is of a new one that begins at `position`."""
        self._header.clear()
        self._left = 0
        self._close()

    def feed(self, chunk: bytes) -> None:
        """Takes a chunk.

        Raises:
            ResultsError: it cannot be written, or is not what `send` writes.
        """
        view = memoryview(chunk)
        with explained(self._folder, "write a temporary file"):
            while view and not self.done and not self.error:
                view = self._content(view) if self._left else self._head(view)

    def feed_all(self, chunks: Iterable[bytes]) -> None:
        """Takes all chunks of one connection.

        Raises:
            ClusterError: the connection was lost, or ended early.
            ResultsError: as `feed`.
        """
        for chunk in chunks:
            self.feed(chunk)
        if not self.done and not self.error:
            raise ClusterError("the files of the run ended before their end", remedy="try again")

    def _content(self, view: memoryview) -> memoryview:
        taken = view[: self._left]
        assert self._file is not None, "a file whose bytes are awaited is open"
        self._file.write(taken)
        self._at += len(taken)
        self._left -= len(taken)
        self.received += len(taken)
        if not self._left:
            self._close()
        return view[len(taken) :]

    def _head(self, view: memoryview) -> memoryview:
        line, end, rest = bytes(view).partition(b"\n")
        self._header += line
        if len(self._header) > _HEADER_BYTES:
            raise _foreign(self._header)
        if end:
            try:
                self._begin(json.loads(self._header))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise _foreign(self._header) from error
            self._header.clear()
        return memoryview(rest)

    def _begin(self, head: dict[str, object]) -> None:
        if "error" in head:
            self.error = str(head["error"])
            self.denied = head.get("denied") is True
            beside = head.get("beside")
            self.beside = [str(name) for name in beside] if isinstance(beside, list) else ()
            return
        if "end" in head:
            self.done = True
            return
        name, offset, size = str(head["name"]), int(str(head["offset"])), int(str(head["size"]))
        if Path(name).name != name or not 0 <= offset <= size:
            raise ValueError(name)
        going_on = self._name == name and self._at >= offset and (self._folder / name).exists()
        if offset and not going_on:
            raise ValueError(name)
        self._file = (self._folder / name).open("r+b" if going_on else "wb")
        self._file.truncate(offset)
        self._file.seek(offset)
        self._name, self._at, self._left = name, offset, size - offset
        if not self._left:
            self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def fetch(
    folder: Path,
    send: Callable[[tuple[str, int] | None], Generator[bytes]],
    *,
    alive: Callable[[], bool],
) -> Receiver:
    """Writes every file that `send` sends into a folder; resumes after lost connections.

    Args:
        folder: an empty folder.
        send: runs specbatch.results.collect.send from a position.
        alive: whether the pod still runs, after `send` has failed.

    Raises:
        ClusterError: it failed for good, or too often in a row.
        ResultsError: files cannot be written here.
    """
    failures = 0
    with Receiver(folder) as receiver:
        while not receiver.done and not receiver.error:
            before = receiver.received
            try:
                with closing(send(receiver.position)) as chunks:
                    receiver.feed_all(chunks)
            except ClusterError as error:
                receiver.lost()
                failures = 0 if receiver.received > before else failures + 1
                if error.reason == "CommandFailed" and alive():
                    raise ClusterError(
                        error.message, where=error.where, remedy=_OTHER_VERSION, reason=error.reason
                    ) from error
                if failures == _FAILURES or error.status in _FATAL:
                    raise
                time.sleep(_BACKOFF.seconds(max(failures, 1)))
    return receiver


def _foreign(header: bytes | bytearray) -> ResultsError:
    text = header[:200].decode("utf-8", "replace")
    return ResultsError(f"that is no file of a run: {text}", remedy=_OTHER_VERSION)
