"""Into how many shards a run is split: one small file says so, here and where the run is published.

Row i belongs to shard i mod N. The first process that opens a run decides N, and later ones must have the same N until `specbatch
reshard` changes it. `splits.jsonl` has a line for each N that the run has had; the last one counts.
"""

from __future__ import annotations

import json
from collections.abc import Collection

from specbatch.errors import ResultsError, SplitError
from specbatch.formatting import first_lines, pluralize
from specbatch.results.layout import MAX_SHARDS, SPLITS, Kind, ShardFile, parse_names, shard_files
from specbatch.results.storage.folder import Folder
from specbatch.results.storage.typed import load_json

_RUNS_NAMED = 5


def encode_split(shards: int) -> bytes:
    """The line of a split into so many shards."""
    return json.dumps({"shards": shards}).encode() + b"\n"


def decode_splits(data: bytes) -> tuple[int, ...]:
    """The splits that a file lists; an incomplete last line, which a killed writer left, does not count.

    Raises:
        ValueError: it is no such file.
    """
    splits: list[int] = []
    for line in data[: data.rfind(b"\n") + 1].splitlines():
        try:
            shards = load_json(line)["shards"]
        except (KeyError, TypeError):
            shards = None
        if type(shards) is not int or not 1 <= shards <= MAX_SHARDS:
            raise ValueError(f"line {len(splits) + 1} has no number of shards")
        splits.append(shards)
    return tuple(splits)


def read_split(folder: Folder, names: Collection[str]) -> int | None:
    """Into how many shards the run in a folder is split; None where there is no run.

    Args:
        folder: the folder.
        names: of the files in it.

    Raises:
        ResultsError: it cannot be read, or files of several splits are there and nothing says which one counts.
    """
    if SPLITS in names:
        try:
            splits = decode_splits(folder.read(SPLITS))
        except ValueError as error:
            raise damaged_list(folder.path_of(SPLITS), error) from error
        except ResultsError as error:
            if not isinstance(error.__cause__, FileNotFoundError):  # deleted since the names were listed
                raise
        else:
            if splits:
                return splits[-1]
    return split_of_files(folder.uri, names)


def files_of_run(folder: Folder, names: Collection[str], kind: Kind | None = None) -> list[ShardFile]:
    """The shard files among the names, in order of kind, shard and sequence; not those that a reshard has not removed yet, or does not count yet."""
    shards = read_split(folder, names)
    return [file for file in parse_names(names, kind) if file.shards == shards]


def check_split(where: str, there: int | None, shards: int) -> None:
    """Does nothing where a run is not split yet, or into so many shards.

    Args:
        where: its folder or URI.
        there: into how many it is split; None where it is not yet.
        shards: how many this process has it split into.

    Raises:
        SplitError: it is split into another number of shards.
    """
    if there is not None and there != shards:
        raise SplitError(
            f"the results are split into {pluralize(there, 'shard')}, and this process is one of {shards}",
            where=where,
            remedy=f"set job.completions to {there}; or, once nothing writes there, run: specbatch reshard {where} --completions {shards}",
        )


def split_of_files(where: str, names: Collection[str]) -> int | None:
    """The split of a run's files; None where there are none. The progress of an earlier split stays when a run is resharded."""
    splits = sorted({file.shards for file in parse_names(names) if file.kind != "progress"})
    if len(splits) > 1:
        raise ResultsError(
            f"files of runs split into {', '.join(map(str, splits))} shards lie there together, and no {SPLITS} says which counts",
            where=where,
            remedy="keep the files of one run, and move the others to a folder of their own",
        )
    return next(iter(splits), None)


def damaged_list(where: str, error: ValueError) -> ResultsError:
    """The error for a file that is no list of splits."""
    return ResultsError(
        f"not the list of a run's splits: {error}",
        where=where,
        remedy='check the disk; the file has a line such as {"shards": 4} for each number of shards that the run has had',
    )


def no_run(folder: Folder) -> ResultsError:
    """The error of a folder that holds no run: where it was looked for, and the runs one level below."""
    remedy, message = "name the folder of a run: <results.dir>/<metadata.name>", "no run is there"
    if folder.local is None:
        return ResultsError(message, where=folder.uri, remedy=remedy)
    if folder.local.is_dir():
        below = [path for path in sorted(folder.local.iterdir()) if path.is_dir() and any(shard_files(path))]
        remedy = f"name the run: {', '.join(first_lines(list(map(str, below)), _RUNS_NAMED))}" if below else remedy
    else:
        message = f"{message}: there is no such folder"
    return ResultsError(message, where=str(folder.local.absolute()), remedy=remedy)
