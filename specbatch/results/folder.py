"""A flat folder of files, on this machine or in any store that fsspec knows: runs are published to it and read from it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from specbatch.errors import ResultsError
from specbatch.results.durable import results_error, sync_directory, write_atomic

_INSTALL = {  # fsspec protocol -> how to install its driver
    "s3": "pip install 'specbatch[s3]'",
    "s3a": "pip install 'specbatch[s3]'",
    "gs": "pip install 'specbatch[gcs]'",
    "gcs": "pip install 'specbatch[gcs]'",
    "az": "pip install 'specbatch[azure]'",
    "abfs": "pip install 'specbatch[azure]'",
    "abfss": "pip install 'specbatch[azure]'",
    "http": "pip install aiohttp",
    "https": "pip install aiohttp",
    "hf": "pip install huggingface_hub",
}
# Whoever calls retries, and shows why: the drivers should give up soon.
_OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {"config_kwargs": {"connect_timeout": 5, "read_timeout": 30, "retries": {"max_attempts": 1}}},
}
_OPTIONS["s3a"] = _OPTIONS["s3"]
_COPY_BYTES = 1 << 20


def install_remedy(protocol: str) -> str:
    """How to get the fsspec driver of a protocol."""
    return _INSTALL.get(protocol, f"install the fsspec driver of {protocol}://")


class Folder:
    """The files under a local path or an fsspec URI; sub-folders are not seen.

    Nothing is remembered of the store: every call asks it. Safe to use from one thread at a time.

    Args:
        uri: a local path, or a URI such as s3://bucket/runs/nightly.

    Attributes:
        uri: as given, without a slash at the end.
        local: the path, where it is one of this machine.

    Raises:
        ResultsError: the store's driver is not installed, or the URI is none.
    """

    def __init__(self, uri: str | Path) -> None:
        text = os.fspath(uri)
        self.local = None if "://" in text and not text.startswith("file://") else Path(text.removeprefix("file://"))
        if self.local is not None:
            self.local = self.local.expanduser()
            self.uri = str(self.local)
            return
        self.uri = text.rstrip("/")
        import fsspec  # noqa: PLC0415 - local runs need none of it

        protocol = text.partition("://")[0]
        try:
            self._store, self._root = fsspec.core.url_to_fs(
                self.uri, use_listings_cache=False, skip_instance_cache=True, **_OPTIONS.get(protocol, {})
            )
        except (ImportError, ValueError) as error:
            raise ResultsError(
                f"no driver for {protocol}:// ({error})", where=self.uri, remedy=install_remedy(protocol)
            ) from error

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path_of("").rstrip("/").rpartition("/")[2]

    def path_of(self, name: str) -> str:
        """Where a file is, for people."""
        return str(self.local / name) if self.local is not None else f"{self.uri}/{name}"

    def child(self, name: str) -> Folder:
        """A folder in this one."""
        return Folder(self.path_of(name))

    def sizes(self) -> dict[str, int]:
        """name -> bytes of every file; nothing where the folder does not exist.

        Raises:
            ResultsError: the store cannot be reached, or does not permit it.
        """
        with self._explained("list the folder", ""):
            if self.local is not None:
                sizes = {}
                for entry in os.scandir(self.local) if self.local.is_dir() else ():
                    with suppress(FileNotFoundError):  # a run goes on there: a temporary file may be gone by now
                        if entry.is_file():
                            sizes[entry.name] = entry.stat().st_size
                return sizes
            try:
                found = self._store.ls(self._root, detail=True)
            except FileNotFoundError:
                return {}
            return {one["name"].rpartition("/")[2]: int(one["size"] or 0) for one in found if one["type"] == "file"}

    def open(self, name: str) -> BinaryIO:
        """A file's bytes as a stream, which may raise anything that the driver does.

        Raises:
            ResultsError: it is not there, or cannot be opened.
        """
        with self._explained("open the file", name):
            if self.local is not None:
                return (self.local / name).open("rb")
            stream: BinaryIO = self._store.open(f"{self._root}/{name}", "rb")
            return stream

    def read(self, name: str) -> bytes:
        """A small file's bytes; ResultsError where that fails."""
        with self._explained("read the file", name):
            if self.local is not None:
                return (self.local / name).read_bytes()
            data: bytes = self._store.cat_file(f"{self._root}/{name}")
            return data

    def put(self, name: str, source: Path) -> None:
        """Copies a local file in, whole or not at all; ResultsError where that fails."""
        with self._explained("copy the file", name):
            if self.local is None:
                self._store.put_file(str(source), f"{self._root}/{name}")
                return
            self.local.mkdir(parents=True, exist_ok=True)
            temporary = self.local / f".{name}.{os.getpid()}.tmp"
            try:
                with source.open("rb") as read, temporary.open("wb") as write:
                    shutil.copyfileobj(read, write, _COPY_BYTES)
                    write.flush()
                    os.fsync(write.fileno())
                temporary.replace(self.local / name)
            finally:
                temporary.unlink(missing_ok=True)
            sync_directory(self.local)

    def write(self, name: str, data: bytes) -> None:
        """Writes a small file, whole or not at all; ResultsError where that fails."""
        with self._explained("write the file", name):
            if self.local is None:
                self._store.pipe_file(f"{self._root}/{name}", data)
                return
            self.local.mkdir(parents=True, exist_ok=True)
            write_atomic(self.local / name, data)

    def remove(self, name: str) -> None:
        """Removes a file, which need not be there; ResultsError where that fails."""
        with self._explained("remove the file", name):
            try:
                if self.local is not None:
                    (self.local / name).unlink()
                else:
                    self._store.rm_file(f"{self._root}/{name}")
            except FileNotFoundError:
                return

    @contextmanager
    def _explained(self, doing: str, name: str) -> Iterator[None]:
        """Drivers raise whatever they like: it becomes one kind of error, with the reason and a remedy."""
        try:
            yield
        except ResultsError:
            raise
        except Exception as error:
            if self.local is not None and isinstance(error, OSError):
                raise results_error(error, self.local / name, doing) from error
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ResultsError(f"cannot {doing}: {reason}", where=self.path_of(name), remedy=_remedy(error)) from error


def _remedy(error: Exception) -> str:
    if isinstance(error, PermissionError) or "credential" in str(error).lower():
        return "check the store's credentials and permissions (its usual environment variables, or job.secretEnvFrom)"
    if isinstance(error, FileNotFoundError):
        return "check the bucket and the path"
    return "check that the store can be reached from here, and its endpoint"
