"""`specbatch reshard`: the finished rows of a run dealt out to another number of shards, while nothing writes them.

The files of the new split are written beside those of the old one, and count for nothing until one line of the list of splits says so;
then those of the old split are removed. So a kill at any moment leaves the run in one of the two splits, with all its rows, and the same
command ends what it began: whatever an earlier one has left there has a name that this one writes or removes.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from specbatch.errors import ResultsError
from specbatch.results.collect.collect import read_all
from specbatch.results.collect.join import Join, JoinedRow
from specbatch.results.collect.output import explained
from specbatch.results.collect.run import FoundRun, find_run
from specbatch.results.identity import Identity
from specbatch.results.layout import ROW_KINDS, SPLITS, SUCCESS, ShardFile, parse_names
from specbatch.results.published_record import record_path
from specbatch.results.shard.split_lock import SplitLock
from specbatch.results.splits import encode_split
from specbatch.results.storage.folder import Folder
from specbatch.results.storage.sorting import MEMORY_BYTES, LineSorter

_TEMPORARY = ".reshard-"
_INDEX_BITS = 46  # of a sorting key, under the number of the shard
_INDEX = (1 << _INDEX_BITS) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Resharded:
    """What a reshard did.

    Attributes:
        before, shards: the number of shards, then and now.
        rows: that were dealt out; 0 where the run had so many shards already.
        duplicates: rows left out because they were there twice.
        removed: files of another split that were removed.
    """

    before: int
    shards: int
    rows: int = 0
    duplicates: int = 0
    removed: int = 0


def reshard(source: str | Path, shards: int, *, tmp: Path | None = None, memory_bytes: int = MEMORY_BYTES) -> Resharded:
    """Splits a run into so many shards. What it holds of rows stays what it was; the next attempt decodes what is missing.

    Memory does not grow with the rows; temporary files take about the room of the part files.

    Args:
        source: the run's folder: a path, or the URI where it is published. A store has no locks: see that nothing publishes there.
        shards: how many.
        tmp: for temporary files. None: in the folder, or the system's place where that is a URI.
        memory_bytes: about what sorting may hold.

    Raises:
        ResultsError: no run, a complete one, one that is still written, damaged files, or an operation failed.
    """
    folder = Folder(source)
    find_run(folder, resharding=True)  # before a lock makes a file in a folder that is none of ours
    with contextlib.ExitStack() as stack:
        lock = None if folder.local is None else stack.enter_context(SplitLock(folder.local))
        if lock is not None:
            lock.hold_alone()
        _remove_temporary(folder)
        run = find_run(folder, resharding=True)
        if run.shards == shards:
            return Resharded(before=shards, shards=shards, removed=_remove_others(folder, shards))
        if not run.unfinished:
            raise ResultsError(
                "the run is complete: there is nothing left for other shards to do",
                where=folder.uri,
                remedy="collect it as it is",
            )
        if run.identity is None:
            raise ResultsError(
                "nothing there says which run it is", where=folder.uri, remedy="put its identity files back"
            )
        temporary = tmp or folder.local or Path(tempfile.gettempdir())
        with explained(temporary, "write a temporary file"):
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=_TEMPORARY, dir=temporary)))
            sorter = stack.enter_context(LineSorter(place, memory_bytes=memory_bytes))
            read_all(run, lambda index, rank, line: sorter.add(_key(run, index, shards), rank, line))
            folder.remove(SUCCESS)
            _remove_strays(folder, shards)
            join = Join(run)
            in_order = ((key & _INDEX, rank, line) for key, rank, line in sorter.sorted())
            rows = _write(folder, run.identity, shards, join.unique(in_order), place)
        if lock is not None:
            lock.change(shards)
        else:
            before = folder.read(SPLITS) if SPLITS in folder.sizes() else encode_split(run.shards)
            folder.write(
                SPLITS, before + encode_split(shards)
            )  # by its size, which grows, a pod of the old split knows
        removed = _remove_others(folder, shards)
    return Resharded(before=run.shards, shards=shards, rows=rows, duplicates=join.duplicates, removed=removed)


def _key(run: FoundRun, index: int, shards: int) -> int:
    """Sorts rows by their new shard, then by their index."""
    if index > _INDEX:
        raise ResultsError(f"row {index} is no row of a dataset", where=run.folder.uri, remedy="check the disk")
    return (index % shards) << _INDEX_BITS | index


def _write(folder: Folder, identity: Identity, shards: int, rows: Iterable[JoinedRow], place: Path) -> int:
    """The identity, part and errors file of every new shard, from rows in order of their shard; how many rows."""
    count, groups = 0, groupby(rows, key=lambda row: row[0] % shards)
    shard, group = next(groups, (shards, iter(())))
    for number in range(shards):
        paths = {kind: place / kind for kind in ROW_KINDS}
        with paths["part"].open("wb") as part, paths["errors"].open("wb") as errors:
            for _, is_error, line in group if shard == number else ():
                (errors if is_error else part).write(line + b"\n")
                count += 1
        for kind, path in paths.items():
            folder.put(ShardFile(kind, number, shards).name, path)
        folder.write(ShardFile("identity", number, shards).name, identity.encode())
        if shard == number:
            shard, group = next(groups, (shards, iter(())))
    return count


def _remove_strays(folder: Folder, shards: int) -> None:
    """What is left of when the run had so many shards before, and gets no new content."""
    for file in parse_names(folder.sizes()):
        if file.shards == shards and (file.sequence or file.kind in {"progress", "manifest"}):
            folder.remove(file.name)
    if folder.local is not None:
        for shard in range(shards):
            record_path(folder.local, shard, shards).unlink(missing_ok=True)


def _remove_others(folder: Folder, shards: int) -> int:
    """The files of every other split; how many. Those that say how long its attempts took stay, for the report."""
    others = [file for file in parse_names(folder.sizes()) if file.shards != shards and file.kind != "progress"]
    for file in others:
        folder.remove(file.name)
    return len(others)


def _remove_temporary(folder: Folder) -> None:
    """What a killed reshard left of its temporary files."""
    for path in folder.local.glob(f"{_TEMPORARY}*") if folder.local is not None else ():
        shutil.rmtree(path, ignore_errors=True)
