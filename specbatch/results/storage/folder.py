"""A flat folder of files, on this machine or in any store that fsspec knows: runs are published to it and read from it."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from specbatch.errors import ResultsError
from specbatch.results.storage.checksums import Checksum, checksum_of
from specbatch.results.storage.durable import (
    make_directory,
    open_plain,
    read_plain,
    results_error,
    sync_directory,
    temporary_name,
    write_atomic,
)
from specbatch.results.storage.stores import Store, reason_of, remedy_of, timeout

_COPY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Stored:
    """A file as the folder has it: its bytes, and the store's own hash where there is one."""

    size: int
    checksum: Checksum | None = None


@contextmanager
def _passing_over_what_is_gone() -> Iterator[None]:
    """A run goes on there: a temporary file may be gone by now. A link that leads to itself is no file either."""
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.ENOENT, errno.ELOOP}:
            raise


class Folder:
    """The files under a local path or an fsspec URI; sub-folders are not seen.

    Nothing is remembered of the store but `checksums`: every call asks it. Safe to use from one thread at a time. `stores.Store`
    says where credentials come from.

    Args:
        uri: a local path, or a URI such as s3://bucket/runs/nightly.
        seconds: how long one call may wait for the store, where its driver can be interrupted (S3, GCS, Azure, HTTP);
            calls that copy have more, by the file's size.

    Attributes:
        uri: as given, without a slash at the end.
        local: the path, where it is one of this machine.
        checksums: name -> the store's own hash, if any, as of the last call of `sizes`.

    Raises:
        ResultsError: the store's driver is not installed, or the URI is none.
    """

    def __init__(self, uri: str | Path, *, seconds: float = 60.0) -> None:
        self._seconds = seconds
        self._made = False
        self.checksums: dict[str, Checksum | None] = {}
        text = os.fspath(uri)
        self.local = None if "://" in text and not text.startswith("file://") else Path(text.removeprefix("file://"))
        if self.local is not None:
            self.local = self.local.expanduser()
            self.uri = str(self.local)
            return
        self.uri = text.rstrip("/")
        self._store = Store(self.uri, seconds=seconds)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path_of("").rstrip("/").rpartition("/")[2]

    def path_of(self, name: str) -> str:
        """Where a file is, for people."""
        return str(self.local / name) if self.local is not None else f"{self.uri}/{name}"

    def child(self, name: str) -> Folder:
        """A folder in this one."""
        return Folder(self.path_of(name), seconds=self._seconds)

    def timeout(self, size: int = 0) -> float:
        """Seconds after which a call that moves so many bytes is given up."""
        return timeout(self._seconds, size)

    def sizes(self) -> dict[str, int]:
        """name -> bytes of every file; nothing where the folder does not exist. `checksums` are then those of that moment.

        Raises:
            ResultsError: the store cannot be reached, or does not permit it.
        """
        listing = self._listing()
        self.checksums = {name: found.checksum for name, found in listing.items()}
        return {name: found.size for name, found in listing.items()}

    def _listing(self) -> dict[str, Stored]:
        with self.explained("list the folder", ""):
            if self.local is not None:
                sizes: dict[str, Stored] = {}
                if not self.local.is_dir():
                    return sizes
                with os.scandir(self.local) as entries:
                    for entry in entries:
                        with _passing_over_what_is_gone():
                            if entry.is_file():
                                sizes[entry.name] = Stored(entry.stat().st_size)
                return sizes
            try:
                found = self._store.call("ls", self._store.root, detail=True)
            except FileNotFoundError:
                return {}
            return {one["name"].rpartition("/")[2]: _stored(one) for one in found if one["type"] == "file"}

    def size(self, name: str) -> int | None:
        """Bytes of a file, None where it is not there; ResultsError where the store cannot be asked."""
        found = self.look(name)
        return None if found is None else found.size

    def look(self, name: str) -> Stored | None:
        """What is known of a file, None where it is not there; ResultsError where the store cannot be asked."""
        with self.explained("look for the file", name):
            try:
                if self.local is not None:
                    return Stored((self.local / name).stat().st_size)
                return _stored(self._store.call("info", self._store.path(name)))
            except FileNotFoundError:
                return None

    def open(self, name: str) -> BinaryIO:
        """A file's bytes as a stream, which may raise anything that the driver does.

        Raises:
            ResultsError: it is not there, or cannot be opened.
        """
        with self.explained("open the file", name):
            if self.local is not None:
                return os.fdopen(open_plain(self.local / name, os.O_RDONLY), "rb")
            stream: BinaryIO = self._store.driver.open(self._store.path(name), "rb")
            return stream

    def read(self, name: str) -> bytes:
        """A small file's bytes; ResultsError where that fails."""
        with self.explained("read the file", name):
            if self.local is not None:
                return read_plain(self.local / name)
            data: bytes = self._store.call("cat_file", self._store.path(name))
            return data

    def get(self, name: str, target: Path, size: int) -> None:
        """Copies a file of that size out, over what is at `target`; ResultsError where that fails, and litter may be left."""
        with self.explained("fetch the file", name):
            if self.local is not None:
                shutil.copyfile(self.local / name, target)
            else:
                self._store.call("get_file", self._store.path(name), str(target), size=size)

    def put(self, name: str, source: Path, *, new: bool = False) -> bool:
        """Copies a local file in, whole or not at all.

        Args:
            name: in the folder.
            source: the file.
            new: leave a file alone that is there already, where the store can tell. Some S3 servers replace it all the same.

        Returns:
            Whether it was copied: False where one was there already.

        Raises:
            ResultsError: that failed.
        """
        with self.explained("copy the file", name):
            if self.local is None:
                return self._store.create(
                    "put_file", str(source), self._store.path(name), size=source.stat().st_size, new=new
                )
            if new and (self.local / name).exists():
                return False
            self._make(self.local)
            temporary = temporary_name(self.local / name)
            try:
                with source.open("rb") as read, temporary.open("wb") as write:
                    shutil.copyfileobj(read, write, _COPY_BYTES)
                    write.flush()
                    os.fsync(write.fileno())
                temporary.replace(self.local / name)
            finally:
                temporary.unlink(missing_ok=True)
            sync_directory(self.local)
            return True

    def write(self, name: str, data: bytes, *, new: bool = False) -> bool:
        """Writes a small file, whole or not at all; arguments, result and errors as `put`."""
        with self.explained("write the file", name):
            if self.local is None:
                return self._store.create("pipe_file", self._store.path(name), data, size=len(data), new=new)
            if new and (self.local / name).exists():
                return False
            self._make(self.local)
            write_atomic(self.local / name, data)
            return True

    def remove(self, name: str) -> None:
        """Removes a file, which need not be there; ResultsError where that fails."""
        with self.explained("remove the file", name):
            try:
                if self.local is not None:
                    (self.local / name).unlink()
                else:
                    self._store.call("rm_file", self._store.path(name))
            except FileNotFoundError:
                return

    def _make(self, local: Path) -> None:
        """The folder is there, and outlives a power cut, also where a killed process had made it."""
        if not self._made or not local.is_dir():
            make_directory(local)
            self._made = True

    @contextmanager
    def explained(self, doing: str, name: str) -> Iterator[None]:
        """Drivers raise whatever they like: it becomes one kind of error, with the reason and a remedy."""
        try:
            yield
        except ResultsError:
            raise
        except Exception as error:
            if self.local is not None and isinstance(error, OSError):
                raise results_error(error, self.local / name, doing) from error
            raise ResultsError(
                f"cannot {doing}: {reason_of(error)}", where=self.path_of(name), remedy=remedy_of(error)
            ) from error


def _stored(info: Mapping[str, Any]) -> Stored:
    return Stored(int(info["size"] or 0), checksum_of(info))
