"""Samples finished rows of a run, and finds the same rows in the dataset."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from specbatch.errors import ResultsError
from specbatch.results.rows import ResultRow
from specbatch.results.splits import files_of_run
from specbatch.results.storage.durable import results_error
from specbatch.results.storage.folder import Folder
from specbatch.results.wire import decode_result
from specbatch.runner.dataset.bad_rows import RowError
from specbatch.runner.dataset.dataset import Dataset
from specbatch.runner.rows.prefetcher import PreparedRow
from specbatch.runner.rows.prompts import PromptEncoder
from specbatch.runner.rows.row import BadRow
from specbatch.runner.rows.row_reader import RowReader


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows in order of index, out of `finished`."""

    rows: Sequence[ResultRow]
    finished: int


def sample_rows(run_dir: Path, count: int, seed: int) -> Sample:
    """Chooses rows in one pass over all part files, in memory for `count` rows.

    A row is chosen by a hash of (seed, index): the same rows whatever order they finished in, and in however many files. A row
    that is there twice counts once.

    Raises:
        ResultsError: a file cannot be read, or holds a line that is no row.
    """
    chosen: list[tuple[int, int, ResultRow]] = []  # a heap, the first to go in front
    held: set[int] = set()
    finished = 0
    for row in _rows(run_dir):
        finished += 1
        if row.index in held:
            finished -= 1
            continue
        item = (-_lot(seed, row.index), row.index, row)
        if len(chosen) < count:
            heapq.heappush(chosen, item)
            held.add(row.index)
        elif item > chosen[0]:
            held.discard(heapq.heapreplace(chosen, item)[1])
            held.add(row.index)
    return Sample(sorted((row for _, _, row in chosen), key=lambda row: row.index), finished)


@dataclass(slots=True)
class FoundRows:
    """Sampled rows as the dataset has them now.

    same: with the prompt and decoding of the run, ready to decode
    changed: of the others, a sentence each
    """

    same: list[tuple[ResultRow, PreparedRow]] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)


def find_prompts(dataset: Dataset, reader: RowReader, encoder: PromptEncoder, rows: Sequence[ResultRow]) -> FoundRows:
    """Looks the rows up by index, reading the dataset no further than the last of them.

    Raises:
        DatasetError: it cannot be read.
    """
    found = FoundRows()
    wanted = {row.index: row for row in rows}
    raw_rows = dataset.rows()
    while wanted and (raw := next(raw_rows, None)) is not None:
        recorded = wanted.pop(raw.index, None)
        if recorded is None:
            continue
        row = reader.read(raw)
        if isinstance(row, BadRow):
            found.changed.append(f"{recorded.id}: {row.message}")
        elif row.id != recorded.id:
            found.changed.append(f"{recorded.id}: row {recorded.index} is now {row.id}")
        elif row.fingerprint != recorded.fingerprint:
            found.changed.append(f"{recorded.id}: its prompt or decoding has changed")
        else:
            try:
                found.same.append((recorded, PreparedRow.of(row, encoder)))
            except RowError as error:
                found.changed.append(f"{recorded.id}: {error.message}")
    found.changed += [f"{row.id}: row {row.index} is not there any more" for row in wanted.values()]
    return found


class SampleQueue:
    """Prepared rows as a supply for engines."""

    def __init__(self, rows: Iterable[PreparedRow]) -> None:
        self._rows = list(rows)[::-1]

    def take(self, *, wait: bool, beside: PreparedRow | None = None) -> PreparedRow | None:
        """The next row; None where none is left."""
        del wait, beside
        try:
            return self._rows.pop()  # one step: replicas take from several threads
        except IndexError:
            return None

    def wait_for_row(self) -> bool:
        """Whether one is left."""
        return bool(self._rows)


def _lot(seed: int, index: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}\0{index}".encode(), digest_size=8).digest(), "big")


def _rows(run_dir: Path) -> Iterator[ResultRow]:
    folder = Folder(run_dir)
    for file in files_of_run(folder, folder.sizes(), "part"):
        path = run_dir / file.name
        try:
            with path.open("rb") as lines:
                for number, line in enumerate(lines, start=1):
                    if line.endswith(b"\n"):  # a torn last line is no row yet
                        yield _row(line, path, number)
        except OSError as error:
            raise results_error(error, path, "read the rows") from error


def _row(line: bytes, path: Path, number: int) -> ResultRow:
    try:
        return decode_result(line)
    except ValueError as error:
        raise ResultsError(
            f"line {number} is no result row ({error})",
            where=str(path),
            remedy="the file is damaged: `specbatch collect` checks every file's sha256",
        ) from error
