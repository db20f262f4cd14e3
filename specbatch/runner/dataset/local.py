"""Finds the files of a dataset on this machine: a file, a folder, a glob, a folder of a Hugging Face dataset."""

from __future__ import annotations

import glob
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

from specbatch.errors import DatasetError
from specbatch.runner.dataset.folders import Chosen, choose, refuse_twins
from specbatch.runner.dataset.repositories import Repository, is_shard
from specbatch.runner.dataset.source import Found, Source

_GLOB_CHARACTERS = frozenset("*?[")


def local_path(uri: str) -> Path:
    """The path that a local URI means: in file:// a space is %20; a file that is named so on the disk is found as well."""
    path = uri.removeprefix("file://")
    if path == uri:
        return Path(uri).expanduser()
    path = path.removeprefix("localhost") if path.startswith("localhost/") else path
    decoded = Path(unquote(path)).expanduser()
    literal = Path(path).expanduser()
    return literal if literal.exists() and not decoded.exists() else decoded


def local_sources(root: Path, *, config: str | None, split: str | None) -> Found:
    """The files that a path or glob names.

    Args:
        root: the path.
        config: the configuration, where it is a Hugging Face dataset.
        split: the split, likewise.

    Raises:
        DatasetError: nothing there, or several splits and none is named.
        OSError: not permitted.
    """
    if root.is_dir():
        repository = _repository(root, named=bool(config or split))
        return _local_folder(root) if repository is None else _chosen(root, repository.choose(config, split))
    if config or split:
        raise DatasetError(
            "dataset.config and dataset.split are for folders and repositories of Hugging Face datasets",
            where=str(root.absolute()),
            remedy="leave them out, or name the dataset's folder",
        )
    if root.is_file():
        return Found([_local_source(root)])
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


def _repository(root: Path, *, named: bool) -> Repository | None:
    """The folder as a Hugging Face dataset; None where it is none, and no split of it is named."""
    entries = sorted(path.name for path in root.iterdir())
    marks = {"dataset_dict.json", "state.json", "README.md", "data"}
    if not named and marks.isdisjoint(entries) and not any(is_shard(name) for name in entries):
        return None
    names = [
        path.relative_to(root).as_posix()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(root).parts)
    ]
    repository = Repository(str(root), names, lambda name: (root / name).read_bytes())
    return repository if named or repository.is_saved or repository.is_described else None


def _chosen(root: Path, chosen: Chosen) -> Found:
    gone = next((name for name in chosen.taken if not (root / name).is_file()), None)
    if gone is not None:
        raise DatasetError(
            "no such file, and the dataset's state.json names it",
            where=str(root / gone),
            remedy="copy the whole folder",
        )
    return Found([_local_source(root / name) for name in chosen.taken], (), chosen.sentence)


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
