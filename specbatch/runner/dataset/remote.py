"""Reads a file of a store or web server as one stream: after an outage it goes on at the byte that was reached."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, cast

from specbatch.errors import DatasetError, ResultsError
from specbatch.redact import redact_uri
from specbatch.results.storage.stores import Store
from specbatch.runner.retry import Retrier
from specbatch.runner.transient_errors import answer_of, cause_of

_CALL_SECONDS = 8.0  # without a byte: a store that has not answered by then is tried again
_BLOCK_BYTES = 4 << 20
_READ_BYTES = 1 << 18
_SKIP_BYTES = 1 << 20
_BAD_REQUEST = 400
_SIGNS = ("size", "ETag", "etag", "generation", "md5Hash", "LastModified", "Last-Modified", "last_modified", "modified", "mtime")  # fmt: skip


def signs_of(info: Mapping[str, Any]) -> dict[str, Any]:
    """What changes with a file, of what its store says of it: the size, when it was written, the store's own sign."""
    return {sign: info[sign] for sign in _SIGNS if info.get(sign) is not None}


class RemoteStore:
    """The store that a dataset's URI names, asked again while it is out of reach.

    Args:
        uri: as the spec has it.
        retrier: tries again what fails while the store is out of reach.

    Attributes:
        root: the path in the store that the URI means.
        pinned: whether files cannot change.

    Raises:
        DatasetError: the store's driver is not installed, or the URI is none.
    """

    pinned = False

    def __init__(self, uri: str, retrier: Retrier) -> None:
        self.uri = uri
        self.retrier = retrier
        self._store: Store | None = None
        self.root = str(self.connect().root)

    def connect(self) -> Store:
        """A new connection, which looks for credentials again."""
        try:
            self._store = Store(self.uri, seconds=_CALL_SECONDS)
        except ResultsError as error:
            raise DatasetError(error.message, where=error.where, remedy=error.remedy) from error
        return self._store

    def ask(self, question: Callable[[Any], Any]) -> Any:
        """The answer to a question, which gets the driver; raises whatever the driver does, OutOfReachError where it may pass."""
        return self.retrier.call(lambda: self._try(question), where=redact_uri(self.uri))

    def info(self, path: str) -> dict[str, Any]:
        """What the store says of a file; errors as `ask`."""
        return dict(self.ask(lambda driver: _info(driver, path)))

    def open(self, path: str, name: str, info: dict[str, Any], *, anywhere: bool = False) -> BinaryIO:
        """A file that goes on where it was, whatever happens to its connection.

        Args:
            path: in the store.
            name: for people.
            info: what the store said of the file when it was found.
            anywhere: whether it is read here and there, so that nothing is fetched ahead.
        """
        size = _BLOCK_BYTES if anywhere else _READ_BYTES
        return cast("BinaryIO", io.BufferedReader(_RemoteFile(self, path, name, info, anywhere=anywhere), size))

    def open_options(self, info: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002 - for stores of another kind
        """What the driver's `open` is told of a file beside its path."""
        return {}

    def _try(self, question: Callable[[Any], Any]) -> Any:
        store = self._store or self.connect()
        try:
            return question(store.driver)
        except Exception:
            self._store = None
            raise


class _RemoteFile(io.RawIOBase):
    """One file; see `RemoteStore.open`."""

    def __init__(self, store: RemoteStore, path: str, name: str, info: dict[str, Any], *, anywhere: bool) -> None:
        self._anywhere = anywhere
        self._store = store
        self._path = path
        self._name = name
        self._info = info  # as it was when the file was found
        self._stream: Any = None
        self._position = 0
        self._in_order = False  # a server that knows no ranges gives the file from its begin only

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Whether the store is asked for ranges."""
        return self._anywhere

    def tell(self) -> int:
        """The position, in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Goes to a position.

        Raises:
            DatasetError: the store gives no ranges, or does not say how long the file is.
        """
        size = self._info.get("size")
        if not self._anywhere or size is None:
            raise self._without_ranges()
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: size}[whence]
        if self._stream is not None:
            self._stream.seek(self._position)
        return self._position

    def _without_ranges(self) -> DatasetError:
        return DatasetError(
            "a Parquet or Arrow file is read by ranges, and its server gives none",
            where=self._name,
            remedy="copy the file to this machine, or into a store (s3://, gs://), first",
        )

    def readinto(self, buffer: Any, /) -> int:
        """The next bytes, as many as the buffer holds at most; 0 at the end.

        Raises:
            OutOfReachError: the store could not be reached for too long.
            DatasetError: the file was changed meanwhile.
            Exception: what the driver raised, where trying again is of no use.
        """
        view = memoryview(buffer).cast("B")
        wanted = len(view) if self._anywhere else min(len(view), _READ_BYTES)
        if self._anywhere:
            wanted = min(wanted, max(0, self._info["size"] - self._position))
        data = self._store.retrier.call(lambda: self._read(wanted), where=self._name, was_permitted=self._position > 0)
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        """Lets go of the connection."""
        self._drop()
        super().close()

    def _read(self, wanted: int) -> bytes:
        try:
            if self._stream is None:
                self._stream = self._opened()
            data: bytes = self._stream.read(wanted)
        except ValueError as error:
            if self._in_order or "range requests" not in str(error):  # fsspec's own words
                raise
            self._drop()
            if self._anywhere:
                raise self._without_ranges() from error
            self._in_order = True
            return self._read(wanted)
        except BaseException:
            self._drop()
            raise
        size = self._info.get("size")
        if not data and size is not None and self._position < size:
            self._drop()
            raise ConnectionError(f"the file ends at byte {self._position:,} of {size:,}")
        return data

    def _opened(self) -> Any:
        """The file from where we are."""
        store = self._store.connect()
        if self._position:
            self._check_unchanged(store.driver)
        if not self._in_order:
            options = {"block_size": _BLOCK_BYTES, "cache_type": "none" if self._anywhere else "readahead"}
            options |= self._store.open_options(self._info)
            stream = _asked(store.driver, self._path, lambda: store.driver.open(self._path, "rb", **options))
            try:
                if self._position:
                    stream.seek(self._position)
            except ValueError as error:  # an HTTP server that does not say how long the file is
                stream.close()
                if self._anywhere:
                    raise self._without_ranges() from error
                self._in_order = True
            else:
                return stream
        stream = store.driver.open(self._path, "rb", block_size=0)
        left = self._position
        while left:
            passed = stream.read(min(left, _SKIP_BYTES))
            if not passed:
                raise ConnectionError(f"the file ends before byte {self._position:,}")
            left -= len(passed)
        return stream

    def _check_unchanged(self, driver: Any) -> None:
        """Bytes of two versions must not become one file."""
        if self._store.pinned:
            return
        before, now = signs_of(self._info), signs_of(_info(driver, self._path))
        for sign in before:
            if sign in now and before[sign] != now[sign]:
                raise DatasetError(
                    f"it was changed while it was read ({sign} {before[sign]}, now {now[sign]})",
                    where=self._name,
                    remedy="let the dataset be while a run reads it, and start again: --fresh where other rows are meant now",
                )

    def _drop(self) -> None:
        if self._stream is not None:
            with contextlib.suppress(Exception):
                self._stream.close()
            self._stream = None


def _info(driver: Any, path: str) -> dict[str, Any]:
    info: dict[str, Any] = _asked(driver, path, lambda: driver.info(path))
    return info


def _asked(driver: Any, path: str, call: Callable[[], Any]) -> Any:
    """S3 answers a HEAD without a body: that a token has expired can be read only in the answer to a GET."""
    try:
        return call()
    except OSError as error:
        if answer_of(cause_of(error)) == (_BAD_REQUEST, str(_BAD_REQUEST)):
            driver.cat_file(path, start=0, end=1)
            return call()  # it works again meanwhile
        raise
