"""The forms in which rows are handed out: as they are, or as the OpenAI batch output form."""

from __future__ import annotations

from dataclasses import replace
from typing import BinaryIO, Literal, Protocol

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


class JsonLines:
    """Each row byte for byte as in the part files."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, line: bytes) -> None:
        """The line and its newline."""
        self._file.write(line)
        self._file.write(b"\n")

    def close(self) -> None:
        """Nothing is left to do."""


class OpenAILines:
    """Each row in the OpenAI batch output form. Rows that came in that form keep their bytes; others become chat completions.

    Args:
        file: where the lines go.
        form: model and time for rows that did not come in that form.
        errors: whether these are error rows.
    """

    def __init__(self, file: BinaryIO, form: OpenAIForm, *, errors: bool = False) -> None:
        self._file = file
        self._form = form
        self._errors = errors

    def write(self, line: bytes) -> None:
        """The line in that form, and its newline."""
        if not is_openai(line):
            line = self._converted(line)
        self._file.write(line)
        self._file.write(b"\n")

    def close(self) -> None:
        """Nothing is left to do."""

    def _converted(self, line: bytes) -> bytes:
        if self._errors:
            error = decode_error(line)
            return line if error.openai else encode_error(replace(error, openai=self._form))[:-1]
        result = decode_result(line)
        return line if result.openai else encode_result(replace(result, openai=self._form))[:-1]
