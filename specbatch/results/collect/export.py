"""The forms in which rows are handed out: as they are, as the OpenAI batch output form, or as a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO, Literal, Protocol

from msgspec.structs import replace

from specbatch.results.collect.export_parquet import ParquetRows
from specbatch.results.collect.lines import is_openai
from specbatch.results.rows import OpenAIForm
from specbatch.results.wire import decode_error, decode_result, encode_error, encode_result

ExportFormat = Literal["jsonl", "parquet", "openai"]


class Export(Protocol):
    """Writes rows in a form. OSErrors of the file pass through, and ValueErrors of lines that are no rows."""

    def write(self, line: bytes) -> None:
        """A row, as its line in the part file without the newline."""

    def close(self) -> None:
        """After the last row; the file stays open."""


class Lines:
    """A line for each row: as in the part file, byte for byte, or as `convert` makes it."""

    def __init__(self, file: BinaryIO, convert: Callable[[bytes], bytes] = lambda line: line) -> None:
        self._file = file
        self._convert = convert

    def write(self, line: bytes) -> None:
        """The line and its newline."""
        self._file.write(self._convert(line))
        self._file.write(b"\n")

    def close(self) -> None:
        """Nothing is left to do."""


def make_export(file: BinaryIO, form: ExportFormat, openai: OpenAIForm, *, errors: bool = False) -> Export:
    """Writes result rows, or error rows, in a form.

    Args:
        file: where they go.
        form: parquet is for result rows; error rows beside them stay lines.
        openai: model and time for rows that did not come in the OpenAI form. Those that did keep their bytes.
        errors: whether these are error rows.
    """
    if form == "parquet" and not errors:
        return ParquetRows(file)
    if form != "openai":
        return Lines(file)
    return Lines(file, lambda line: line if is_openai(line) else (_error if errors else _result)(line, openai))


def _result(line: bytes, form: OpenAIForm) -> bytes:
    row = decode_result(line)
    return line if row.openai else encode_result(replace(row, openai=form))[:-1]


def _error(line: bytes, form: OpenAIForm) -> bytes:
    row = decode_error(line)
    return line if row.openai else encode_error(replace(row, openai=form))[:-1]
