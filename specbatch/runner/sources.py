"""From a dataset URI to the files it names: a file, a directory, a glob, local or of any fsspec store."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from specbatch.errors import DatasetError, SpecbatchError
from specbatch.redact import was_redacted, without_secrets
from specbatch.runner.outages import answer_of, cause_of, may_pass
from specbatch.runner.patience import START_SECONDS, Patience, out_of_reach, short_reason
from specbatch.runner.remote import RemoteStore

_COMPRESSIONS = (".gz", ".zst")
_ROW_ENDINGS = (".jsonl", ".ndjson", ".json", ".txt")
_NOT_FOUND = 404
_GLOB_CHARACTERS = frozenset("*?[")
_EMPTY_REMEDY = "name a file, a directory or a glob that holds .jsonl or .txt files (also .gz, .zst)"


@dataclass(frozen=True, slots=True)
class Source:
    """One file of a dataset.

    Attributes:
        name: the path or URI, as shown to people: without secrets.
        size: bytes as stored (compressed where it is), or None where the store does not say.
        open_stored: opens the stored bytes.
    """

    name: str
    size: int | None
    open_stored: Callable[[], BinaryIO]

    @property
    def compression(self) -> str:
        """Either .gz, .zst or empty."""
        ending = os.path.splitext(self.name)[1].lower()  # noqa: PTH122 - names may be URIs
        return ending if ending in _COMPRESSIONS else ""

    @property
    def is_text(self) -> bool:
        """Whether every line is a prompt as it stands (.txt)."""
        return self.name.lower().removesuffix(self.compression).endswith(".txt")


def find_sources(uri: str, patience: Patience | None = None) -> tuple[Source, ...]:
    """The files that a dataset URI names, in a fixed order (sorted by name).

    Args:
        uri: a local path, a glob, or an fsspec URI.
        patience: with a store that is out of reach.

    Raises:
        DatasetError: nothing there, not permitted, or the store's driver is not installed.
        OutOfReachError: the store could not be reached.
    """
    if was_redacted(uri):
        raise DatasetError(
            "its signature is not kept with the run", where=uri, remedy="give the URI anew: --set dataset.uri=..."
        )
    if "://" in uri and not uri.startswith("file://"):
        return _remote_sources(uri, patience or Patience(START_SECONDS))
    return _local_sources(Path(uri.removeprefix("file://")).expanduser())


def _local_sources(root: Path) -> tuple[Source, ...]:
    try:
        found = _local_paths(root)
    except OSError as error:
        raise unreadable(str(root), error) from error
    if found is None:
        raise DatasetError(
            "no such file, directory or glob match", where=str(root.absolute()), remedy="check spec.dataset.uri"
        )
    if not found:
        raise DatasetError("the directory holds no rows files", where=str(root.absolute()), remedy=_EMPTY_REMEDY)
    return tuple(Source(str(file), file.stat().st_size, partial(_open, file)) for file in found)


def _local_paths(root: Path) -> list[Path] | None:
    """The files under a path or glob, sorted; None when nothing is there."""
    if root.is_file():
        return [root]
    if root.is_dir():
        return sorted(path for path in root.iterdir() if path.is_file() and _holds_rows(path.name))
    if _GLOB_CHARACTERS & set(str(root)):
        matches = sorted(glob.glob(str(root), recursive=True))  # noqa: PTH207 - Path.glob refuses absolute patterns
        return [Path(match) for match in matches if Path(match).is_file()] or None
    return None


def _open(path: Path) -> BinaryIO:
    return path.open("rb")


def _remote_sources(uri: str, patience: Patience) -> tuple[Source, ...]:
    protocol = uri.partition("://")[0]
    try:
        store = RemoteStore(uri, patience)
        root = store.root
        paths = store.ask(lambda driver: _remote_paths(driver, root, protocol))
        infos = [store.info(path) for path in paths]
    except SpecbatchError:
        raise
    except Exception as error:
        if isinstance(error, FileNotFoundError) and answer_of(cause_of(error))[0] in {None, _NOT_FOUND}:
            raise DatasetError(
                "no such object, prefix or glob match", where=uri, remedy="check spec.dataset.uri"
            ) from error
        raise unreadable(uri, error) from error
    if not paths:
        raise DatasetError("nothing there holds rows", where=uri, remedy=_EMPTY_REMEDY)
    names = [_public_name(protocol, path) for path in paths]
    return tuple(
        Source(name, info.get("size"), partial(store.open, path, name, info))
        for name, path, info in zip(names, paths, infos, strict=True)
    )


def _public_name(protocol: str, name: str) -> str:
    """Signed anew, a file has the same name."""
    return without_secrets(name if "://" in name else f"{protocol}://{name}")


def _remote_paths(store: Any, path: str, protocol: str) -> Sequence[str]:
    if protocol.rpartition("::")[2] in {"http", "https"}:  # a ? begins a query there, and nothing can be listed
        return [path]
    if _GLOB_CHARACTERS & set(path):
        return sorted(store.glob(path))
    if store.isdir(path):
        return sorted(name for name in store.ls(path, detail=False) if _holds_rows(name) and not store.isdir(name))
    store.info(path)
    return [path]


def _holds_rows(name: str) -> bool:
    file = name.rpartition("/")[2].lower()
    for compression in _COMPRESSIONS:
        file = file.removesuffix(compression)
    return file.endswith(_ROW_ENDINGS) and not file.startswith((".", "_"))


def unreadable(where: str, error: BaseException) -> SpecbatchError:
    """The error for whatever a file or store raised while it was read: OutOfReachError where it may pass, else DatasetError."""
    if isinstance(error, SpecbatchError):
        return error
    if may_pass(error):
        return out_of_reach(where, error)
    return DatasetError(
        f"cannot be read: {short_reason(error)}",
        where=where,
        remedy="check that the file is whole and that this process may read it (credentials, permissions)",
    )
