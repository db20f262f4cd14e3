"""The files that a run has from when it was split into another number of shards: adopted by one shard each, read by all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

from specbatch.errors import ResultsError
from specbatch.results.layout import ROW_KINDS, Kind, ShardFile, shard_files
from specbatch.results.manifest import FileEntry
from specbatch.results.shard.parts import PartPolicy, Parts
from specbatch.results.storage.durable import open_plain, results_error, sync_if_possible

SeeLine = Callable[[Kind, bytes], None]
"""Gets a kind of file and a line of it, without its newline; raises ValueError where that is no row."""


class DamagedRowsError(ResultsError):
    """A line in the middle of a file is no row."""


def old_files(run_dir: Path, me: ShardFile, *, adopted: bool) -> list[ShardFile]:
    """The row files of other splits that a shard answers for (`adopted`), or the others of them.

    Args:
        run_dir: the run's directory.
        me: any file of the shard.
        adopted: which ones.
    """
    return [
        file
        for file in shard_files(run_dir)
        if file.kind in ROW_KINDS and file.shards != me.shards and (file.owner(me.shards) == me.shard) == adopted
    ]


def adopt(run_dir: Path, me: ShardFile, on_line: SeeLine, policy: PartPolicy) -> tuple[FileEntry, ...]:
    """Reads the files that the shard answers for, and closes them for good: what a dying writer left at the end is cut off.

    To be called by one process at a time, when none writes them any more.

    Raises:
        ResultsError: another process writes them, one is damaged or missing, or an operation failed.
    """
    entries: list[FileEntry] = []
    firsts = dict.fromkeys(replace(file, sequence=0) for file in old_files(run_dir, me, adopted=True))
    for first in firsts:
        parts = Parts(run_dir, first, partial(on_line, first.kind), policy)
        parts.close()
        entries += parts.entries
    return tuple(entries)


def read_others(run_dir: Path, me: ShardFile, on_line: SeeLine) -> None:
    """Reads the files of other splits that other shards answer for, whether those have cut them already or are about to.

    Raises:
        ResultsError: one is damaged, or cannot be read.
    """
    for file in old_files(run_dir, me, adopted=False):
        path = run_dir / file.name
        try:
            with os.fdopen(open_plain(path, os.O_RDONLY), "rb") as stream:
                see_lines(stream, file, str(path), on_line)
                sync_if_possible(stream.fileno())  # rows that only the page cache held count from here on
        except OSError as error:
            raise results_error(error, path, "read the rows of another split") from error


def see_lines(stream: Iterable[bytes], file: ShardFile, where: str, on_line: SeeLine) -> None:
    """Gives every row of a file; what a dying writer left at its end is passed over.

    Raises:
        DamagedRowsError: a line in its middle is none.
    """
    bad_at = 0
    for number, line in enumerate(stream, start=1):
        try:
            if not line.endswith(b"\n"):
                raise ValueError("no newline")  # noqa: TRY301 - one more kind of line that is no row
            on_line(file.kind, line[:-1])
        except ValueError:
            bad_at = bad_at or number
            continue
        if bad_at:
            raise DamagedRowsError(
                f"line {bad_at} is damaged, and good lines follow it: no writer of ours leaves that behind",
                where=where,
                remedy="check the disk; delete that line, and its row is decoded again, or start over with --fresh",
            )
