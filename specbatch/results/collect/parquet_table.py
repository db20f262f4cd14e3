"""A table as a Parquet file, written a group of rows at a time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, BinaryIO

from specbatch.errors import ResultsError
from specbatch.results.collect.columns import Column, as_text

_GROUP_ROWS = 1 << 15
_GROUP_BYTES = 32 << 20
_SURROGATE = re.compile("[\ud800-\udfff]")


class ParquetTable:
    """Writes rows of values, compressed with zstd; the rows of a group are held in memory.

    Parquet's strings are UTF-8, which cannot carry half of a surrogate pair: such a half is replaced by U+FFFD.

    Raises:
        ResultsError: pyarrow is not installed.
    """

    formulas = 0

    def __init__(self, file: BinaryIO, columns: Sequence[Column], *, group_rows: int = _GROUP_ROWS) -> None:
        pa, new_writer = with_pyarrow()
        self._pa = pa
        types = {"string": pa.string(), "int64": pa.int64(), "double": pa.float64(), "bool": pa.bool_()}
        self._schema = pa.schema(
            [pa.field(one.name, types.get(one.kind, one.kind), nullable=one.nullable) for one in columns]
        )
        self._text = [one.kind == "string" for one in columns]
        self._writer = new_writer(file, self._schema, compression="zstd")
        self._group_rows = group_rows
        self._rows: list[Sequence[Any]] = []
        self._bytes = 0

    def write(self, values: Sequence[Any], size: int) -> None:
        """One row, of about so many bytes; ValueError, TypeError or OverflowError where a value is not of its column's type."""
        self._rows.append(values)
        self._bytes += size
        if len(self._rows) >= self._group_rows or self._bytes >= _GROUP_BYTES:
            self._write_group()

    def close(self) -> None:
        """Writes the last group and the footer; the file stays open."""
        try:
            self._write_group()
        finally:
            self._writer.close()

    def _write_group(self) -> None:
        if not self._rows:
            return
        values = list(zip(*self._rows, strict=True))
        self._rows, self._bytes = [], 0
        columns = [
            self._array([as_text(value) for value in column] if text else column, field.type)
            for column, text, field in zip(values, self._text, self._schema, strict=True)
        ]
        self._writer.write_batch(self._pa.record_batch(columns, schema=self._schema))

    def _array(self, column: Sequence[Any], kind: Any) -> Any:
        try:
            return self._pa.array(column, kind)
        except UnicodeEncodeError:
            return self._pa.array([value and _SURROGATE.sub("\ufffd", value) for value in column], kind)


def with_pyarrow() -> tuple[Any, Any]:
    """The package, and its writer of Parquet files.

    Raises:
        ResultsError: it is not installed.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra
        from pyarrow.parquet import ParquetWriter  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ResultsError(
            "a parquet file needs pyarrow", remedy="pip install 'specbatch[parquet]', or collect as jsonl or csv"
        ) from error
    return pa, ParquetWriter
