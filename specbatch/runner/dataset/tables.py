"""Reads Parquet and Arrow by pyarrow, a few rows at a time: row group by row group, batch by batch, never a whole file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from specbatch.errors import DatasetError
from specbatch.runner.dataset.arrow_values import columns_of, unread_columns
from specbatch.runner.dataset.bad_rows import shown
from specbatch.runner.dataset.chunks import ReadPosition, opened
from specbatch.runner.dataset.file_kinds import TABLE_PACKAGE
from specbatch.runner.dataset.lines import RawRow
from specbatch.runner.dataset.source import Source

_ROWS_AT_ONCE = 1024
_BYTES_AT_ONCE = 8 << 20
_BUFFER_BYTES = 1 << 20  # of a column's pages: without it a row group's whole column is in memory


class Table(ABC):
    """A table that is open: the columns that are read of it, and its batches.

    Raises:
        DatasetError: two columns of one name, or none that can be read.
    """

    def __init__(self, schema: Any, source: Source) -> None:
        self._source = source
        twice = [name for name, count in Counter(schema.names).items() if count > 1]
        if twice:
            remedy = "give each its own name"
            raise DatasetError(f"two columns are named {shown(twice[0])}", where=source.name, remedy=remedy)
        unread = unread_columns(schema)
        self.unread = ", ".join(f"{name} ({why})" for name, why in unread.items())
        self.columns = [name for name in schema.names if name not in unread]
        if not self.columns:
            remedy = "name a file with a column of text"
            raise DatasetError(
                f"no column can be read: {self.unread or 'there is none'}", where=source.name, remedy=remedy
            )

    @abstractmethod
    def batches(self, position: ReadPosition, *, whole: bool = False) -> Iterator[Any]:
        """Record batches of the columns that are read, or of all; `position` follows what was read of the file."""

    def rows(self, position: ReadPosition) -> Iterator[RawRow]:
        """The rows."""
        number = 0
        for batch in self.batches(position):
            for values in columns_of(batch, self._source.name):
                number += 1
                position.taken = number
                yield RawRow(0, number, b"", fields=dict(zip(self.columns, values, strict=True)), unread=self.unread)


class ParquetTable(Table):
    """A Parquet file; how many rows it has stands at its end."""

    def __init__(self, stored: BinaryIO, source: Source) -> None:
        from pyarrow import parquet  # noqa: PLC0415 - of tables alone

        self._file = parquet.ParquetFile(stored, pre_buffer=False, buffer_size=_BUFFER_BYTES)
        super().__init__(self._file.schema_arrow, source)

    def batches(self, position: ReadPosition, *, whole: bool = False) -> Iterator[Any]:
        """Row groups in order, a few rows at a time."""
        metadata = self._file.metadata
        position.stored_bytes, position.given = self._source.size or 0, metadata.num_rows
        stored = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
        at_once = _rows_at_once(stored, metadata.num_rows)
        columns = self.columns if self.unread and not whole else None
        return iter(self._file.iter_batches(at_once, columns=columns, use_threads=False))


class ArrowTable(Table):
    """An Arrow file (Feather) or stream; each of its batches is read whole."""

    def __init__(self, stored: Any, source: Source, *, is_stream: bool) -> None:
        from pyarrow import ipc  # noqa: PLC0415 - of tables alone

        self._stored = stored
        self._reader = ipc.open_stream(stored) if is_stream else ipc.open_file(stored)
        self._is_stream = is_stream
        super().__init__(self._reader.schema, source)

    def batches(self, position: ReadPosition, *, whole: bool = False) -> Iterator[Any]:
        """Record batches in order, a large one in slices."""
        for at, batch in enumerate(self._reader if self._is_stream else self._by_number()):
            size = self._source.size or 0
            share = None if self._is_stream else (at + 1) / self._reader.num_record_batches
            position.stored_bytes = self._stored.tell() if share is None else size * share
            position.given += batch.num_rows
            part = batch if whole else batch.select(self.columns)
            part.validate(full=True)  # offsets in a damaged file point anywhere, and reading there ends the process
            step = _rows_at_once(part.nbytes, part.num_rows)
            for begin in range(0, part.num_rows, step):
                yield part.slice(begin, step)

    def _by_number(self) -> Iterator[Any]:
        return (self._reader.get_batch(at) for at in range(self._reader.num_record_batches))


def _rows_at_once(size: int, rows: int) -> int:
    return max(1, min(_ROWS_AT_ONCE, _BYTES_AT_ONCE * rows // max(1, size)))


@contextmanager
def open_table(source: Source, form: str, *, is_stream: bool) -> Iterator[Table]:
    """A Parquet file, an Arrow file or an Arrow stream.

    Raises:
        DatasetError: pyarrow is not installed, a damaged file, or no column that can be read.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415 - of tables alone
    except ImportError as error:
        message = "Parquet and Arrow files are read by pyarrow, which is not installed"
        raise DatasetError(message, where=source.name, remedy=TABLE_PACKAGE) from error
    try:
        with opened(source, anywhere=True) as stored:
            if form == "parquet":
                yield ParquetTable(stored, source)
            elif source.path is not None:  # mapped, nothing of it is copied
                with pa.memory_map(str(source.path)) as mapped:
                    yield ArrowTable(mapped, source, is_stream=is_stream)
            else:
                yield ArrowTable(stored, source, is_stream=is_stream)
    except DatasetError as error:
        if not isinstance(error.__cause__, pa.ArrowInvalid):
            raise
        raise DatasetError(
            f"the {form.capitalize()} file is damaged, or was cut: {error.__cause__}",
            where=source.name,
            remedy="copy or make the file again",
        ) from error
