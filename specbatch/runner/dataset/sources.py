"""Resolves a dataset URI to files: a file, a directory or a glob, local or in any fsspec store."""

from __future__ import annotations

import glob
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote

from specbatch.errors import DatasetError, SpecbatchError
from specbatch.redact import was_redacted, without_secrets
from specbatch.runner.dataset.folders import Chosen, choose, refuse_twins
from specbatch.runner.dataset.remote import RemoteStore, signs_of
from specbatch.runner.retry import Retrier, out_of_reach, short_reason
from specbatch.runner.transient_errors import answer_of, cause_of, is_transient

_NOT_FOUND = 404
_GLOB_CHARACTERS = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Source:
    """One file of a dataset.

    Attributes:
        name: the path or URI, as shown to people: without secrets.
        size: bytes as stored (compressed where it is), or None where the store does not say.
        open_stored: opens the stored bytes, to be read in order.
        open_anywhere: opens them to be read here and there.
        seen: what changes with the file: its size, when it was written, the store's own sign of it.
        path: of a file of this machine.
    """

    name: str
    size: int | None
    open_stored: Callable[[], BinaryIO]
    open_anywhere: Callable[[], BinaryIO]
    seen: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """The files that a URI names.

    Attributes:
        sources: those that hold rows, in a fixed order.
        passed: files of a folder that were left out.
        left_out: a sentence about them; empty where there are none.
    """

    sources: Sequence[Source]
    passed: Sequence[Source] = ()
    left_out: str = ""


def find_sources(uri: str, retrier: Retrier) -> Found:
    """The files that a dataset URI names, in a fixed order (sorted by name); there may be none in a folder.

    Args:
        uri: a local path, a glob, or an fsspec URI.
        retrier: for a store that is out of reach.

    Raises:
        DatasetError: nothing there, not permitted, or the store's driver is not installed.
        OutOfReachError: the store could not be reached.
    """
    if was_redacted(uri):
        raise DatasetError(
            "its signature is not kept with the run", where=uri, remedy="give the URI anew: --set dataset.uri=..."
        )
    if is_remote(uri):
        return _remote_sources(uri, retrier)
    root = local_path(uri)
    try:
        return _local_sources(root)
    except OSError as error:
        raise unreadable(str(root), error) from error


def is_remote(uri: str) -> bool:
    """Whether a store or server is meant, not a file of this machine."""
    return "://" in uri and not uri.startswith("file://")


def is_here(uri: str) -> bool:
    """Whether a URI means files of this machine, and there are any."""
    if is_remote(uri) or was_redacted(uri):
        return False
    path = local_path(uri)
    return os.path.lexists(path) or next(glob.iglob(str(path), recursive=True), None) is not None  # noqa: PTH207 - as `_local_sources`


def local_path(uri: str) -> Path:
    """The path that a local URI means: in file:// a space is %20; a file that is named so on the disk is found as well."""
    path = uri.removeprefix("file://")
    if path == uri:
        return Path(uri).expanduser()
    path = path.removeprefix("localhost") if path.startswith("localhost/") else path
    decoded = Path(unquote(path)).expanduser()
    literal = Path(path).expanduser()
    return literal if literal.exists() and not decoded.exists() else decoded


def _local_sources(root: Path) -> Found:
    if root.is_file():
        return Found([_local_source(root)])
    if root.is_dir():
        return _local_folder(root)
    if root.exists():
        raise DatasetError(
            f"{_what(root)}, and a run reads its dataset more than once",
            where=str(root.absolute()),
            remedy=f"write it to a file first: cat {shlex.quote(str(root))} > rows.jsonl",
        )
    if _GLOB_CHARACTERS & set(str(root)):
        matches = sorted(glob.glob(str(root), recursive=True))  # noqa: PTH207 - Path.glob refuses absolute patterns
        if matches:
            files = [path for path in matches if Path(path).is_file()]
            folders = {path: _what(Path(path)) for path in matches if path not in files}
            refuse_twins(files)
            return Found([_local_source(Path(path)) for path in files], (), Chosen(files, folders).sentence)
    message = "a link that leads nowhere" if root.is_symlink() else "no such file, directory or glob match"
    raise DatasetError(
        message,
        where=str(root.absolute()),
        remedy=f"check spec.dataset.uri; relative paths begin in the current directory, {Path.cwd()}",
    )


def _local_folder(root: Path) -> Found:
    paths = sorted(root.iterdir())
    files = [path for path in paths if path.is_file()]
    others = {str(path): _what(path) for path in paths if path not in files}
    by_file: dict[tuple[int, int], Path] = {}
    for path in files:
        first = by_file.setdefault((path.stat().st_dev, path.stat().st_ino), path)
        if first != path:
            others[str(path)] = f"the same file as {first.name}"
    chosen = choose((str(path) for path in by_file.values()), others)
    broken = next((path for path in paths if path.is_symlink() and not path.exists()), None)
    if broken is not None:
        raise DatasetError("a link that leads nowhere", where=str(broken), remedy="bring its file back, or remove it")
    passed = [_local_source(path) for path in by_file.values() if str(path) in chosen.left_out]
    return Found([_local_source(Path(path)) for path in chosen.taken], passed, chosen.sentence)


def _local_source(path: Path) -> Source:
    state = path.stat()
    seen = {"size": state.st_size, "mtime": state.st_mtime_ns}

    def opened() -> BinaryIO:
        return path.open("rb")

    return Source(str(path), state.st_size, opened, opened, seen, path)


def _what(path: Path) -> str:
    tests: tuple[tuple[Callable[[], bool], str], ...] = (
        (path.is_dir, "a folder"), (path.is_fifo, "a named pipe"), (path.is_socket, "a socket"), (path.is_char_device, "a device"),
        (path.is_block_device, "a device"), (path.is_symlink, "a link that leads nowhere"),
    )  # fmt: skip
    return next((what for test, what in tests if test()), "no file")


def _remote_sources(uri: str, retrier: Retrier) -> Found:
    protocol = uri.partition("://")[0]
    try:
        store = RemoteStore(uri, retrier)
        chosen: Chosen = store.ask(lambda driver: _remote_paths(driver, store.root, protocol))
        infos = {path: store.info(path) for path in chosen.taken}
    except SpecbatchError:
        raise
    except Exception as error:
        if isinstance(error, FileNotFoundError) and answer_of(cause_of(error))[0] in {None, _NOT_FOUND}:
            raise DatasetError(
                "no such object, prefix or glob match", where=uri, remedy="check spec.dataset.uri"
            ) from error
        raise unreadable(uri, error) from error
    files = [path for path, why in chosen.left_out.items() if why != "a folder"]
    return Found(
        [_remote_source(store, path, _public_name(protocol, path), info) for path, info in infos.items()],
        [_remote_source(store, path, path, {}) for path in files],
        chosen.sentence,
    )


def _remote_source(store: RemoteStore, path: str, name: str, info: dict[str, Any]) -> Source:
    opened = partial(store.open, path, name, info)
    return Source(name, info.get("size"), opened, partial(opened, anywhere=True), signs_of(info))


def _public_name(protocol: str, name: str) -> str:
    """Signed anew, a file has the same name."""
    return without_secrets(name if "://" in name else f"{protocol}://{name}")


def _remote_paths(store: Any, path: str, protocol: str) -> Chosen:
    if protocol.rpartition("::")[2] in {"http", "https"}:  # a ? begins a query there, and nothing can be listed
        return Chosen([path], {})
    if _GLOB_CHARACTERS & set(path):
        found = sorted(name for name in store.glob(path) if not store.isdir(name))
        if not found:
            raise FileNotFoundError(path)
        refuse_twins(found)
        return Chosen(found, {})
    if not store.isdir(path):
        store.info(path)
        return Chosen([path], {})
    entries = store.ls(path, detail=True)
    files = [
        entry["name"] for entry in entries if entry.get("type") != "directory" and entry["name"].rstrip("/") != path
    ]
    return choose(files, {entry["name"]: "a folder" for entry in entries if entry.get("type") == "directory"})


def unreadable(where: str, error: BaseException) -> SpecbatchError:
    """The error for whatever a file or store raised while it was read: OutOfReachError where it may pass, else DatasetError."""
    if isinstance(error, SpecbatchError):
        return error
    if is_transient(error):
        return out_of_reach(where, error)
    return DatasetError(
        f"cannot be read: {short_reason(error)}",
        where=where,
        remedy="check that the file is whole and that this process may read it (credentials, permissions)",
    )
