"""The dataset as a stream of raw rows: bounded memory, bounded lines, this pod's share of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NoReturn

from specbatch.api.dataset import DatasetSpec
from specbatch.errors import DatasetError
from specbatch.runner.dataset.chunks import ReadPosition, opened
from specbatch.runner.dataset.lines import RawRow
from specbatch.runner.dataset.readers import PARQUET, open_rows
from specbatch.runner.dataset.source import Source
from specbatch.runner.dataset.sources import find_sources, is_remote
from specbatch.runner.dataset.unchanged import check_unchanged
from specbatch.runner.retry import START_SECONDS, Retrier

_FILES_LOOKED_INTO = 16
_FINGERPRINT_BYTES = 1 << 16


class Dataset:
    """The rows that spec.dataset names, in a fixed order.

    Args:
        spec: spec.dataset.
        retrier: for a store that is out of reach; before the first row it is shorter.

    Attributes:
        left_out: a sentence about files of a folder that were passed over; empty where none was.

    Raises:
        DatasetError: nothing there, or not readable.
        OutOfReachError: the store could not be reached.
    """

    def __init__(self, spec: DatasetSpec, retrier: Retrier | None = None) -> None:
        self._spec = spec
        self.retrier = retrier or Retrier()
        with self.retrier.at_most(START_SECONDS):
            self._found = find_sources(spec, self.retrier)
            self.sources = self._found.sources
            self.left_out = self._found.left_out
            if not self.sources:
                self._refuse_folder()
        self._rows_read = 0
        self._ended = False
        self._finished_bytes = 0
        self._position = ReadPosition()

    def check_readable(self) -> None:
        """Looks at the beginning of the files (of a store the first few), and for the first row: what is found here costs nothing yet.

        Raises:
            DatasetError: a file cannot be read, is of a kind that is not, or there is no row.
            OutOfReachError: the store could not be reached.
        """
        with self.retrier.at_most(START_SECONDS):
            for source in self.sources[: _FILES_LOOKED_INTO if is_remote(self._spec.uri) else None]:
                self._look_into(source)
            for _ in self._rows():
                return
        raise DatasetError(
            "the dataset holds no rows",
            where=self._spec.uri,
            remedy="give it rows: a JSON object each, records below a header of CSV, or lines of a .txt file",
        )

    def _refuse_folder(self) -> NoReturn:
        for source in self._found.passed[:_FILES_LOOKED_INTO]:
            self._look_into(source)  # most likely it is of a kind that says what to do
        raise DatasetError(
            f"the folder holds no files of rows; {self.left_out or 'it is empty'}",
            where=self._spec.uri,
            remedy="name a file, a directory or a glob that holds .jsonl, .json, .csv, .tsv, .parquet, .arrow or .txt files (texts also compressed: .gz, .zst, .bz2, .xz)",
        )

    def _look_into(self, source: Source) -> None:
        with open_rows(source, ReadPosition(), self._spec.format):
            pass

    def head(self) -> Iterator[RawRow]:
        """The first rows, lazily, beside what `rows` gives; errors as `check_readable`."""
        with self.retrier.at_most(START_SECONDS):
            yield from self._rows()

    def fingerprint(self) -> str:
        """A hash of the files' names, sizes and first bytes: a restart on another dataset is noticed before any row is.

        Raises:
            DatasetError: a file cannot be read.
        """
        digest = hashlib.blake2b(digest_size=16)
        for at, source in enumerate(self.sources):
            digest.update(f"{source.name.rpartition('/')[2]}\0{source.size}\0".encode("utf-8", "surrogateescape"))
            if at < _FILES_LOOKED_INTO:
                with opened(source) as stored:
                    digest.update(stored.read(_FINGERPRINT_BYTES))
        return digest.hexdigest()

    def rows(self) -> Iterator[RawRow]:
        """Every row, lazily; to be called once.

        Raises:
            DatasetError: after the last row: there are more or fewer than expected, or the files are not those of the start any more.
        """
        for row in self._rows():
            self._rows_read = row.index + 1
            yield row
        check_unchanged(self._spec, self._found, self.retrier, limited=self._rows_read == self._spec.limit)
        self._check_count()
        self._ended = True

    def _check_count(self) -> None:
        if self._spec.expect_rows is None:
            return
        expected = min(self._spec.expect_rows, self._spec.limit or self._spec.expect_rows)
        if self._rows_read != expected:
            raise DatasetError(
                f"the dataset holds {self._rows_read:,} rows, and dataset.expectRows is {expected:,}",
                where=self._spec.uri,
                remedy="find out which is right; with the right number or file start again: rows that are finished are kept",
            )

    @property
    def kind(self) -> str:
        """What the file at hand is: JSON Lines, CSV, Parquet, ...; for people."""
        return self._position.kind

    @property
    def knows_rows(self) -> bool:
        """Whether `estimated_rows` is exact, though not all are read: a Parquet file says how many it has."""
        return len(self.sources) == 1 and self._position.kind == PARQUET and self._rows_read > 0

    @property
    def rows_in_all(self) -> int | None:
        """How many rows there are; None before `rows` has come to its end."""
        return self._rows_read if self._ended else None

    @property
    def estimated_rows(self) -> int | None:
        """How many rows there are: exact once all are read, before that from the share of bytes read."""
        if self._ended:
            return self._rows_read
        sizes = [source.size for source in self.sources if source.size is not None]
        read = self._finished_bytes + self._position.made_into_rows
        if len(sizes) < len(self.sources) or not read or not self._rows_read:
            return self._spec.limit
        estimate = max(self._rows_read, round(self._rows_read * sum(sizes) / read))
        return min(estimate, self._spec.limit) if self._spec.limit is not None else estimate

    def _rows(self) -> Iterator[RawRow]:
        index = 0
        self._finished_bytes = 0
        for source in self.sources:
            self._position = ReadPosition()
            with open_rows(source, self._position, self._spec.format) as rows:
                for row in rows:
                    if index == self._spec.limit:
                        return
                    row.index = index
                    yield row
                    index += 1
            self._finished_bytes += source.size or 0
