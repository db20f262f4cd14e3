"""Rows in order of their index: duplicates removed, gaps found."""

from __future__ import annotations

import contextlib
import struct
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from specbatch.errors import ResultsError
from specbatch.results.collect.lines import key_of
from specbatch.results.collect.run import FoundRun, RowFile
from specbatch.results.storage.sorting import Keyed

_ERRORS_AT, _FILE_AT = 62, 40  # bits of a rank: error rows after results, then the file, then the line
_RANGE = struct.Struct("<QQ")
_FIRST = 5


def rank_of(number: int, file: RowFile, line: int) -> int:
    """Which of two rows with one index counts: the lesser rank. Results before errors, then in order of files and lines."""
    assert number < 1 << (_ERRORS_AT - _FILE_AT)
    return file.is_errors << _ERRORS_AT | number << _FILE_AT | line


def is_error_rank(rank: int) -> bool:
    """Whether it is that of an error row."""
    return rank >> _ERRORS_AT == 1


JoinedRow = tuple[int, bool, bytes]
"""(index, whether it is an error row, line): a row that goes out."""


class Gaps:
    """Indices that no row has: as ranges in a temporary file, for there may be many.

    Attributes:
        count: how many indices are missing.
        first: the first few of them.
    """

    def __init__(self, directory: Path) -> None:
        self._file = cast("BinaryIO", tempfile.TemporaryFile(dir=directory))  # noqa: SIM115 - closed by `close`
        self.count = 0
        self.first: tuple[int, ...] = ()

    def add(self, begin: int, end: int) -> None:
        """Indices from begin to before end are missing; later ones are greater."""
        self._file.write(_RANGE.pack(begin, end))
        self.count += end - begin
        if len(self.first) < _FIRST:
            self.first = (*self.first, *range(begin, end)[: _FIRST - len(self.first)])

    def __iter__(self) -> Iterator[int]:
        self._file.seek(0)
        while data := self._file.read(_RANGE.size):
            yield from range(*_RANGE.unpack(data))

    def close(self) -> None:
        """Gives the room back."""
        with contextlib.suppress(OSError):  # what it cannot flush is not wanted any more
            self._file.close()


class Join:
    """Takes rows in order of (index, rank), lets one of each index through.

    Attributes:
        duplicates: rows left out, because one of the same index, id and fingerprint came before.
    """

    def __init__(self, run: FoundRun) -> None:
        self._run = run
        self.duplicates = 0

    def rows(self, rows: Iterable[Keyed], gaps: Gaps) -> Iterator[JoinedRow]:
        """The rows that go out, in input order; indices that no row has go to `gaps`. Errors as `unique`."""
        last = -1
        for index, is_error, line in self.unique(rows):
            if index != last + 1:
                gaps.add(last + 1, index)
            last = index
            yield index, is_error, line
        if self._run.dataset_rows is not None and last + 1 < self._run.dataset_rows:
            gaps.add(last + 1, self._run.dataset_rows)

    def unique(self, rows: Iterable[Keyed]) -> Iterator[JoinedRow]:
        """The first of the rows of each index, which must follow each other in order of their rank.

        Raises:
            ResultsError: two rows of one index are not the same row: files of two runs are mixed.
        """
        last, kept_rank, kept = -1, 0, b""
        for index, rank, line in rows:
            if index == last:
                if kept != line:
                    self._check_same(index, (kept_rank, kept), (rank, line))
                self.duplicates += 1
                continue
            last, kept_rank, kept = index, rank, line
            yield index, is_error_rank(rank), line

    def _check_same(self, index: int, one: tuple[int, bytes], other: tuple[int, bytes]) -> None:
        places = [self._place(rank) for rank, _ in (one, other)]
        try:
            keys = [key_of(line) for _, line in (one, other)]
        except ValueError as error:
            raise ResultsError(
                f"row {index} is there twice, in {' and '.join(places)}, and one of them is no whole row: {error}",
                where=self._run.folder.uri,
                remedy="restore the files from a copy, or start the run again with --fresh",
            ) from error
        if keys[0] == keys[1]:
            return
        raise ResultsError(
            f"row {index} is there twice and differs:"
            + "".join(
                f"\n    {place}: id {name!r}, fingerprint {fingerprint}"
                for place, (name, fingerprint) in zip(places, keys, strict=True)
            ),
            where=self._run.folder.uri,
            remedy="files of two runs are mixed: keep those of one, and move the others to a folder of their own",
        )

    def _place(self, rank: int) -> str:
        number = rank >> _FILE_AT & (1 << (_ERRORS_AT - _FILE_AT)) - 1
        return f"{self._run.files[number].file.name} line {rank & (1 << _FILE_AT) - 1}"
