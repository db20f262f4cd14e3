"""One large file of the hub: downloaded by ranges, so that what is here of an interrupted download is kept, and checked by its sha256.

The hub's own client begins a file again after every interruption (huggingface_hub 1.33 writes to a temporary file of its own name), and a
file of weights has up to 5 GB.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from specbatch.errors import OutOfReachError
from specbatch.runner.retry import Retrier
from specbatch.runner.transient_errors import is_transient

if TYPE_CHECKING:
    import httpx

PARTIAL = ".specbatch-partial"
_CHUNK_BYTES = 1 << 20
_SILENCE_SECONDS = 30.0  # without a byte
_SYNC_BYTES = 1 << 28  # written back so often: what a power cut may take


class CancelledError(Exception):
    """The download is not wanted any more."""


@dataclass(frozen=True, slots=True)
class Blob:
    """A file to be here.

    Args:
        name: for people.
        url: where it is.
        size: bytes.
        sha256: 64 hex digits.
        place: where it will be; until it is whole it is beside it, as PLACE.specbatch-partial.
    """

    name: str
    url: str
    size: int
    sha256: str
    place: Path

    @property
    def partial(self) -> Path:
        """Where it is until it is whole."""
        return self.place.with_name(self.place.name + PARTIAL)

    @property
    def here(self) -> int:
        """Bytes of it that are here."""
        for path in (self.place, self.partial):
            with suppress(OSError):
                return min(path.stat().st_size, self.size)
        return 0


def provide(
    blob: Blob, headers: dict[str, str], *, retrier: Retrier, advance: Callable[[int], None], cancelled: threading.Event
) -> None:
    """Downloads what is missing of a file, and checks all of it; one that is whole and right is only read.

    Several processes may do the same at once: they wait for each other where the file system has locks, and else write the same bytes.

    Args:
        blob: the file.
        headers: of the requests.
        retrier: decides how long an outage may last.
        advance: told the number of further bytes that are here and were checked; negative where they proved wrong.
        cancelled: ends it.

    Raises:
        OutOfReachError: the hub did not answer for too long, or sends another content than it says.
        OSError: the file cannot be written.
    """
    blob.place.parent.mkdir(parents=True, exist_ok=True)
    if blob.place.is_file():
        if _checked(blob, blob.place, advance, cancelled):
            return
        blob.place.unlink()  # not what the hub has: a disk's fault, or somebody's change
    with _locked(blob.partial) as stream:
        if blob.place.is_file() and _checked(blob, blob.place, advance, cancelled):
            blob.partial.unlink(missing_ok=True)
            return  # another process was here
        for _ in range(2):
            if _download(blob, stream, headers, retrier, advance, cancelled) == blob.sha256:
                os.fsync(stream.fileno())
                blob.partial.replace(blob.place)
                return
            advance(-blob.size)
            stream.truncate(0)
    raise OutOfReachError(
        f"{blob.name} arrives damaged: its sha256 is not {blob.sha256[:12]}...",
        where=blob.url,
        remedy="try again; where it stays so, a proxy or mirror changes files (HF_ENDPOINT)",
    )


def _checked(blob: Blob, path: Path, advance: Callable[[int], None], cancelled: threading.Event) -> bool:
    """Whether a file is the one that is wanted."""
    if path.stat().st_size != blob.size:
        return False
    with path.open("rb") as stream:
        digest = _read(stream, blob.size, advance, cancelled)
    if digest.hexdigest() == blob.sha256:
        return True
    advance(-blob.size)
    return False


def _read(stream: BinaryIO, size: int, advance: Callable[[int], None], cancelled: threading.Event) -> Any:
    """The hash of the first bytes of a file."""
    digest = hashlib.sha256()
    while size > 0 and (chunk := stream.read(min(size, _CHUNK_BYTES))):
        _stop_if(cancelled)
        digest.update(chunk)
        size -= len(chunk)
        advance(len(chunk))
    return digest


@contextmanager
def _locked(partial: Path) -> Iterator[BinaryIO]:
    """The partial file, open for reading and writing, its content kept."""
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT, 0o644)
    with os.fdopen(descriptor, "r+b") as stream:
        with suppress(ImportError, OSError):  # Windows; file systems without locks
            import fcntl  # noqa: PLC0415 - not on every system

            fcntl.flock(stream, fcntl.LOCK_EX)
        yield stream


def _download(
    blob: Blob,
    stream: BinaryIO,
    headers: dict[str, str],
    retrier: Retrier,
    advance: Callable[[int], None],
    cancelled: threading.Event,
) -> str:
    """Brings the rest of a file; returns its sha256."""
    stream.seek(0)
    digest = _read(stream, blob.size, advance, cancelled)
    while stream.tell() < blob.size:
        retrier.call(lambda: _go_on(blob, stream, digest, headers, advance, cancelled), where=blob.name)
    stream.flush()
    return str(digest.hexdigest())


def _go_on(
    blob: Blob,
    stream: BinaryIO,
    digest: Any,
    headers: dict[str, str],
    advance: Callable[[int], None],
    cancelled: threading.Event,
) -> None:
    """Takes bytes from one connection, to its end. One that is lost after some bytes is no failure: the next goes on from there."""
    from huggingface_hub import get_session  # noqa: PLC0415 - only where something must be downloaded
    from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]  # noqa: PLC0415 - as above; public, and not in __all__

    begin = stream.tell()
    asked = {**headers, "Range": f"bytes={begin}-", "Accept-Encoding": "identity"}
    try:
        with get_session().stream("GET", blob.url, headers=asked, follow_redirects=True, timeout=_SILENCE_SECONDS) as response:  # fmt: skip
            if response.is_error:
                response.read()  # the hub says why in it
            hf_raise_for_status(response)
            skip = 0 if _starts_at(response, begin) else begin  # a server without ranges sends all of it
            for chunk in response.iter_bytes():  # as they arrive: none is lost with the connection
                _stop_if(cancelled)
                fresh = chunk[skip:][: blob.size - stream.tell()]
                skip = max(0, skip - len(chunk))
                stream.write(fresh)
                digest.update(fresh)
                advance(len(fresh))
                if stream.tell() // _SYNC_BYTES != (stream.tell() - len(fresh)) // _SYNC_BYTES:
                    stream.flush()
                    os.fsync(stream.fileno())
    except Exception as error:
        if stream.tell() == begin or not is_transient(error):
            raise
        return
    if stream.tell() < blob.size and stream.tell() == begin:
        raise ConnectionError(f"{blob.name} ends after {begin:,} of {blob.size:,} bytes")


def _starts_at(response: httpx.Response, begin: int) -> bool:
    return begin == 0 or (
        response.status_code == 206 and f"bytes {begin}-" in response.headers.get("content-range", "")
    )


def _stop_if(cancelled: threading.Event) -> None:
    if cancelled.is_set():
        raise CancelledError
