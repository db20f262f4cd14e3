"""How many rows of a shard have ended, each once, however often the run was killed.

A shard counts the rows in its files when it opens them, and every row that it writes from then on. Its progress file is up to two seconds
old when it is killed: what the row files have grown by since is read from their ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from specbatch.results.layout import ROW_KINDS, Kind, ShardFile, parse_names


class Lines(msgspec.Struct, frozen=True, kw_only=True):
    """The rows in a shard's own files of one kind, and the bytes of those files, at one moment."""

    rows: int = 0
    bytes: int = 0


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """A shard's count.

    Attributes:
        rows: that have ended.
        errors: those of them that could not be decoded.
        own: what its files hold.
    """

    rows: int = 0
    errors: int = 0
    own: dict[Kind, Lines] = {}


def grown(run_dir: Path, file: ShardFile, ended: Ended) -> tuple[int, int]:
    """Rows, and errors among them, that a shard's files hold beyond what it has counted. Less than nothing where they have lost some.

    Args:
        run_dir: the run's directory.
        file: any file of the shard.
        ended: its last count; an empty one makes this the rows of its files.
    """
    counts = {kind: _grown(run_dir, file, kind, ended.own.get(kind, Lines())) for kind in ROW_KINDS}
    return sum(counts.values()), counts["errors"]


def _grown(run_dir: Path, file: ShardFile, kind: Kind, known: Lines) -> int:
    paths = list(_own(run_dir, file, kind))
    sizes = [_size(path) for path in paths]
    if sum(sizes) == known.bytes:
        return 0
    lost = sum(sizes) < known.bytes  # with the machine's power: they are counted again
    skip, lines = 0 if lost else known.bytes, 0
    for path, size in zip(paths, sizes, strict=True):
        if skip < size:
            lines += _whole_lines(path, skip)
        skip = max(0, skip - size)
    return lines - known.rows if lost else lines


def _own(run_dir: Path, file: ShardFile, kind: Kind) -> Iterator[Path]:
    mine = (file.shard, file.shards)
    names = (path.name for path in run_dir.glob(f"{kind}-{file.shard:05d}-of-{file.shards:05d}*"))
    yield from (run_dir / one.name for one in parse_names(names, kind) if (one.shard, one.shards) == mine)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # deleted since it was listed
        return 0


def _whole_lines(path: Path, skip: int) -> int:
    """Behind so many bytes; what a dying writer left at the end is no line."""
    try:
        with path.open("rb") as file:
            file.seek(skip)
            return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))
    except OSError:
        return 0
