"""The forms in which rows are handed out: as they are, as the OpenAI batch output form, or as a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO, Protocol

from msgspec.structs import replace

from specbatch.results.collect.columns import Column, Kind
from specbatch.results.collect.csv_table import CsvTable
from specbatch.results.collect.formats import ExportFormat, delimiter_of
from specbatch.results.collect.lines import is_openai
from specbatch.results.collect.parquet_table import ParquetTable
from specbatch.results.collect.result_table import ResultTable, Table
from specbatch.results.rows import OpenAIForm
from specbatch.results.wire import decode_error, decode_result, encode_error, encode_result


class Export(Protocol):
    """Writes rows in a form. OSErrors of the file pass through, and ValueErrors of lines that are no rows."""

    def write(self, line: bytes) -> None:
        """A row, as its line in the part file without the newline."""

    def close(self) -> None:
        """After the last row; the file stays open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportPlan:
    """How result rows are written.

    Args:
        form: the form. csv and parquet are for result rows; error rows beside them stay lines.
        openai: model and time for rows that did not come in the OpenAI form. Those that did keep their bytes.
        carried: of a table: the columns that the rows carry from the dataset, with their types.
        name: of the file: a .tsv has tabs between its cells.
    """

    form: ExportFormat
    openai: OpenAIForm
    carried: Mapping[str, Kind] = field(default_factory=dict)
    name: str = ""

    def rows(self, file: BinaryIO) -> Export:
        """Writes result rows."""
        if self.form in {"csv", "parquet"}:
            return ResultTable(partial(make_table, file, self.form, self.name), self.carried)
        return Lines(file, self._result if self.form == "openai" else None)

    def error_rows(self, file: BinaryIO) -> Export:
        """Writes error rows."""
        return Lines(file, self._error if self.form == "openai" else None)

    def _result(self, line: bytes) -> bytes:
        if is_openai(line) or (row := decode_result(line)).openai:
            return line
        return encode_result(replace(row, openai=self.openai))[:-1]

    def _error(self, line: bytes) -> bytes:
        if is_openai(line) or (row := decode_error(line)).openai:
            return line
        return encode_error(replace(row, openai=self.openai))[:-1]


class Lines:
    """A line for each row: as in the part file, byte for byte, or as `convert` makes it."""

    def __init__(self, file: BinaryIO, convert: Callable[[bytes], bytes] | None = None) -> None:
        self._file = file
        self._convert = convert

    def write(self, line: bytes) -> None:
        """The line and its newline."""
        self._file.write(self._convert(line) if self._convert else line)
        self._file.write(b"\n")

    def close(self) -> None:
        """Nothing is left to do."""


def make_table(file: BinaryIO, form: ExportFormat, name: str, columns: Sequence[Column]) -> Table:
    """A table in the form csv or parquet; `name` is the file's."""
    return ParquetTable(file, columns) if form == "parquet" else CsvTable(file, columns, delimiter=delimiter_of(name))
