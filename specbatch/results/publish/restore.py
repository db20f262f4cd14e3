"""A shard whose volume was lost, or is new, gets its finished rows back from where they were published."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from specbatch.backoff import Backoff
from specbatch.errors import ResultsError
from specbatch.results.attempts import forget_synced
from specbatch.results.identity import WAYS_OUT, refuse_other_run
from specbatch.results.layout import ROW_KINDS, Kind, ShardFile, own_files
from specbatch.results.publish.destination import Destination, free_sequence
from specbatch.results.publish.ownership import RefusedError
from specbatch.results.splits import check_split, read_split
from specbatch.results.storage.durable import (
    make_directory,
    remove_leftovers,
    results_error,
    sync_directory,
    temporary_name,
    write_atomic,
)
from specbatch.results.storage.folder import Folder

_FIRST_TRIES = 3  # of the first contact, and how long they may take before the last: decoding waits for it
_FIRST_SECONDS = 15.0
_KINDS: tuple[Kind, ...] = (*ROW_KINDS, "progress", "identity")  # the identity last: with it the shard is back


@dataclass(frozen=True, slots=True)
class Restored:
    """What came back.

    Attributes:
        files: those that hold rows.
        first_sequence: the number of the first part and errors file to be written: not 0 where files may be published that are
            not here, whose names must not be used again.
    """

    files: int = 0
    first_sequence: int = 0


def restore(
    destination: Destination,
    *,
    seconds: float,
    say: Callable[[str], None],
    backoff: Backoff | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Restored:
    """Makes first contact with the destination; fetches the shard's files from there if none are here. Call it before the results are opened.

    A store that cannot be reached does not stop the run: it then starts with what is here, and says so.

    Args:
        destination: of this process; with `fresh` what is there is deleted, and nothing fetched.
        seconds: once something to be fetched was seen, give up after so long without any success: rows are then decoded again.
        say: shows a line to people.
        backoff: between tries.
        clock: seconds.
        sleep: waits.

    Raises:
        RefusedError: the destination belongs to another run, or is split into another number of shards.
        SplitError: so is the folder here.
        ResultsError: the volume cannot be written.
    """
    backoff = backoff or Backoff()
    run_dir, file = destination.run_dir, destination.file
    names = [path.name for path in run_dir.iterdir()] if run_dir.is_dir() else []
    here = file.name in names
    if not destination.fresh:
        folder = Folder(run_dir)
        refuse_other_run(folder, names, destination.identity)
        check_split(folder.uri, read_split(folder, names), file.shards)
    problem = _contact(destination, backoff, clock, sleep)
    if problem is not None:
        lost = "" if here else "; rows that were published earlier, if any, are decoded again"
        say(f"{destination.folder.uri} cannot be reached, the run goes on without it{lost}: {problem}")
        return Restored(first_sequence=0 if here and not destination.fresh else free_sequence())
    if here:
        return Restored()
    return _Restoring(destination, say).run(seconds, backoff, clock, sleep)


def _contact(
    destination: Destination, backoff: Backoff, clock: Callable[[], float], sleep: Callable[[float], None]
) -> str | None:
    """Makes first contact; why that did not work."""
    began, failures = clock(), 0
    while True:
        try:
            destination.reach()
        except RefusedError:
            raise
        except ResultsError as error:
            failures += 1
            if failures == _FIRST_TRIES or clock() - began > _FIRST_SECONDS:
                return error.message
            sleep(backoff.seconds(failures))
        else:
            return None


class _Restoring:
    """Fetches the files of a shard, each whole or not at all."""

    def __init__(self, destination: Destination, say: Callable[[str], None]) -> None:
        self._destination = destination
        self._there = destination.files
        self._say = say
        self._run_dir = destination.run_dir
        files = own_files(self._there.sizes, destination.file, *_KINDS)
        self._left = sorted(files, key=lambda file: _KINDS.index(file.kind))

    def run(
        self, seconds: float, backoff: Backoff, clock: Callable[[], float], sleep: Callable[[float], None]
    ) -> Restored:
        rows = [file for file in self._left if file.kind in ROW_KINDS]
        if not rows:
            return Restored()
        size = sum(self._there.sizes[file.name] for file in rows)
        self._say(f"fetching {len(rows)} published files of this shard, {size / 1e6:.1f} MB: none are here")
        make_directory(self._run_dir)
        self._check_directory()
        failures, moved_at, bad = 0, clock(), 0
        while self._left:
            file = self._left[0]
            try:
                self._fetch(file)
            except _UnreachableError as error:
                failures += 1
                if clock() - moved_at < seconds:
                    sleep(backoff.seconds(failures))
                    continue
                self._say(f"{len(self._left)} published files cannot be fetched, their rows are decoded again: {error}")
                bad += sum(file in rows for file in self._left)
                self._left = []
                break  # what is here is whole, and may be gone on with
            except _DamagedError as error:
                # Later ones are of no use without it: a gap means that a file was lost.
                later = [other for other in self._left if other.kind == file.kind]
                self._say(f"{error}: its rows, and those of {len(later) - 1} later files, are decoded again")
                bad += len(later)
                self._left = [other for other in self._left if other not in later]
            else:
                self._left.pop(0)
            failures, moved_at = 0, clock()
        identity = self._run_dir / self._destination.file.name
        if not identity.exists():
            write_atomic(identity, self._destination.identity.encode())
        return Restored(len(rows) - bad, first_sequence=free_sequence() if bad else 0)

    def _check_directory(self) -> None:
        """Rows that are here already must be what was published: an earlier start did not get to the end."""
        for file in own_files([path.name for path in self._run_dir.iterdir()], self._destination.file, *ROW_KINDS):
            if self._there.sizes.get(file.name) != (self._run_dir / file.name).stat().st_size:
                raise ResultsError(
                    f"{file.name} is there without {self._destination.file.name}, and is not what was published",
                    where=str(self._run_dir),
                    remedy=WAYS_OUT,
                )

    def _fetch(self, file: ShardFile) -> None:
        size, path = self._there.sizes[file.name], self._run_dir / file.name
        remove_leftovers(self._run_dir, file.name)
        temporary = temporary_name(path)
        try:
            if path.exists():
                return  # an earlier start got as far as this
            try:
                self._destination.folder.get(file.name, temporary, size)
            except ResultsError as error:
                raise _UnreachableError(error.message) from error
            if file.kind in ROW_KINDS:
                self._check(file, temporary)
            elif file.kind == "progress":
                forget_synced(temporary)
            with temporary.open("rb+") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
            sync_directory(self._run_dir)
        except OSError as error:
            raise results_error(error, path, "write the file") from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def _check(self, file: ShardFile, path: Path) -> None:
        size, digest = self._there.sizes[file.name], self._there.hashes.get(file.name)
        where = f"published file {file.name}"
        if path.stat().st_size != size:
            raise _DamagedError(f"{where} has {path.stat().st_size} bytes, not {size}")
        if digest is not None:
            with path.open("rb") as data:
                if hashlib.file_digest(data, "sha256").hexdigest() != digest:
                    raise _DamagedError(f"{where} is not what its manifest says (sha256)")


class _UnreachableError(Exception):
    """The store did not give a file."""


class _DamagedError(Exception):
    """The store gave something else than was published."""
