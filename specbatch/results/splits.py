"""Into how many shards a run is split, now and before: one small file says so, and keeps the pods of two splits apart.

`job.completions` may change between two attempts. Each split that a run has had is a line of `splits.jsonl`; the last one counts,
and going back to an earlier number is a further line. The file is never replaced, so that it can be locked: whoever writes rows
holds it shared, and a line is only added by who holds it alone. So no row of an old split is written any more once the new one is there.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from specbatch.errors import ResultsError
from specbatch.results.layout import MAX_SHARDS, SPLITS, SUCCESS, ShardFile, parse_names
from specbatch.results.storage.durable import open_plain, results_error, sync_directory
from specbatch.results.storage.folder import Folder
from specbatch.results.storage.locking import lock_within, unlock
from specbatch.results.storage.process import seen_locked
from specbatch.results.storage.typed import load_json

_LARGEST_BYTES = 1 << 20  # seventy thousand splits
PATIENCE_SECONDS = 5.0  # others hold the file alone for an instant only


@dataclass(frozen=True, slots=True)
class Split:
    """A number of shards; `generation` counts the splits that a run had before."""

    shards: int
    generation: int = 0


def encode_splits(history: Sequence[int]) -> bytes:
    """What the file holds of a run that was split into these numbers of shards, one after the other."""
    return b"".join(json.dumps({"shards": shards}).encode() + b"\n" for shards in history)


def decode_splits(data: bytes) -> tuple[int, ...]:
    """The splits that a file tells of; what a dying writer left at its end does not count.

    Raises:
        ValueError: it is no such file.
    """
    history: list[int] = []
    bad = False
    for line in data.splitlines(keepends=True):
        try:
            if not line.endswith(b"\n"):
                raise ValueError("no newline")  # noqa: TRY301 - one more kind of line that is none
            shards = load_json(line)["shards"]
            if type(shards) is not int or not 1 <= shards <= MAX_SHARDS:
                raise ValueError("no number of shards")  # noqa: TRY301 - as above
        except (ValueError, KeyError, TypeError):
            bad = True
            continue
        if bad:
            raise ValueError("a line in its middle is damaged")
        history.append(shards)
    return tuple(history)


def read_history(folder: Folder, names: Collection[str]) -> tuple[int, ...]:
    """The splits of the run in a folder, in order; those of its files where nothing else says so.

    Args:
        folder: the folder.
        names: of the files in it.

    Raises:
        ResultsError: it cannot be read, or files of several splits lie there and nothing says which is the last.
    """
    history: tuple[int, ...] = ()
    if SPLITS in names:
        try:
            history = decode_splits(folder.read(SPLITS))
        except ValueError as error:
            raise _damaged(folder.path_of(SPLITS), error) from error
        except ResultsError as error:
            if not isinstance(error.__cause__, FileNotFoundError):  # deleted since the names were listed
                raise
    return history or _of_files(folder.uri, names)


def read_split(folder: Folder, names: Collection[str]) -> Split | None:
    """The split that counts in a folder, None where there is no run; arguments and errors as `read_history`."""
    history = read_history(folder, names)
    return Split(history[-1], len(history) - 1) if history else None


def next_history(history: Sequence[int], shards: int, known: Sequence[int] = ()) -> tuple[int, ...]:
    """The splits as they must be for a run into so many shards.

    Args:
        history: the splits as they stand.
        shards: how many shards the run is to have.
        known: the splits as they stand elsewhere, which may go on from there.
    """
    history = tuple(history)
    if tuple(known[: len(history)]) == history:
        history = tuple(known)
    return history if history[-1:] == (shards,) else (*history, shards)


class SplitLock:
    """Takes part in a split of a run, from `join` to `release`: in that time the run is split in no other way.

    Attributes:
        split: the split.
    """

    def __init__(self, descriptor: int, split: Split) -> None:
        self._descriptor = descriptor
        self.split = split

    @classmethod
    def join(cls, run_dir: Path, shards: int, *, known: Sequence[int] = ()) -> Self:
        """Goes on in the run's last split where it has that many shards, and begins a new one where not.

        Args:
            run_dir: the run's directory.
            shards: how many the run is to have.
            known: the splits that it has had as far as known elsewhere, for a directory that was lost.

        Raises:
            ResultsError: shards of another split are still written, or an operation failed.
        """
        path = run_dir / SPLITS
        try:
            descriptor = open_plain(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
            try:
                return cls(descriptor, _join(descriptor, run_dir, shards, tuple(known)))
            except BaseException:
                os.close(descriptor)
                raise
        except OSError as error:
            raise results_error(error, path, "join the run's split") from error

    def release(self) -> None:
        """Lets go; a second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _join(descriptor: int, run_dir: Path, shards: int, known: tuple[int, ...]) -> Split:
    while True:
        if not lock_within(descriptor, fcntl.LOCK_SH, PATIENCE_SECONDS):
            raise ResultsError(
                "another process is about to split the run anew",
                where=str(run_dir / SPLITS),
                remedy="start again when it has done so",
            )
        history = _history(descriptor, run_dir, known)
        if history == next_history(history, shards, known):
            os.fsync(descriptor)  # a line that only the page cache held counts from here on
            sync_directory(run_dir)
            return Split(shards, len(history) - 1)
        unlock(descriptor)
        if _wait_until_alone(descriptor, run_dir, shards, known):
            try:
                _begin(descriptor, run_dir, shards, known)
            finally:
                unlock(descriptor)


def _wait_until_alone(descriptor: int, run_dir: Path, shards: int, known: tuple[int, ...]) -> bool:
    """Holds the file alone, or finds that another process has done what we wanted to do."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not lock_within(descriptor, fcntl.LOCK_EX, 0.1):
        history = _history(descriptor, run_dir, known)
        if history == next_history(history, shards, known):
            return False
        if time.monotonic() > deadline:
            raise _still_written(run_dir, history, shards)
    return True


def _begin(descriptor: int, run_dir: Path, shards: int, known: tuple[int, ...]) -> None:
    """Adds the new split; what says that the old one is complete goes first."""
    history = _history(descriptor, run_dir, known)
    wanted = next_history(history, shards, known)
    if history == wanted:
        return
    if history:
        (run_dir / SUCCESS).unlink(missing_ok=True)
        sync_directory(run_dir)
    data = _content(descriptor)
    whole = data.splitlines(keepends=True)[: len(decode_splits(data))]
    if (size := sum(map(len, whole))) < len(data):
        os.ftruncate(descriptor, size)  # a line that a dying writer began
    os.write(descriptor, encode_splits(wanted[len(whole) :]))  # after a short write `_join` begins again
    os.fsync(descriptor)
    sync_directory(run_dir)


def _history(descriptor: int, run_dir: Path, known: tuple[int, ...]) -> tuple[int, ...]:
    try:
        history = decode_splits(_content(descriptor))
    except ValueError as error:
        raise _damaged(str(run_dir / SPLITS), error) from error
    # Files of several splits may have just been fetched from where the others are known.
    return history or (() if known else _of_files(str(run_dir), _names(run_dir)))


def _content(descriptor: int) -> bytes:
    size = os.fstat(descriptor).st_size
    if size > _LARGEST_BYTES:
        raise ValueError(f"it has {size} bytes")
    return os.pread(descriptor, size, 0)


def _names(run_dir: Path) -> list[str]:
    return [path.name for path in run_dir.iterdir()]


def _of_files(where: str, names: Collection[str]) -> tuple[int, ...]:
    """The split of a run's files; none where there are none."""
    splits = sorted({file.shards for file in parse_names(names)})
    if len(splits) > 1:
        raise ResultsError(
            f"files of runs split into {', '.join(map(str, splits))} shards lie there together, and no {SPLITS} says why",
            where=where,
            remedy="keep the files of one run, and move the others to a folder of their own",
        )
    return tuple(splits)


def _still_written(run_dir: Path, history: Sequence[int], shards: int) -> ResultsError:
    """The error of a run whose old split is still at work."""
    old = history[-1] if history else 0
    files = parse_names(_names(run_dir), "identity")
    seen = [file.shard for file in files if file.shards == old and _is_written(run_dir, file)]
    who = f"shard{'s' * (len(seen) > 1)} {', '.join(map(str, seen[:5]))}" if seen else "a shard"
    return ResultsError(
        f"another process is writing {who} of the run as it is split into {old}; this one is to split it into {shards}",
        where=str(run_dir),
        remedy=f"wait for that run to end or stop it (or run with {old} shards): this one then goes on from there",
    )


def _is_written(run_dir: Path, file: ShardFile) -> bool:
    with contextlib.suppress(OSError):
        return seen_locked(run_dir / ShardFile("part", file.shard, file.shards).name)
    return False


def _damaged(where: str, error: ValueError) -> ResultsError:
    return ResultsError(
        f"not the list of a run's splits: {error}",
        where=where,
        remedy='check the disk; the file has a line such as {"shards": 4} for each number of shards that the run has had',
    )
