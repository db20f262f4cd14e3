"""The files that collect writes together: rows in the wanted form, and error rows beside them."""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path
from typing import BinaryIO

from specbatch.errors import ResultsError
from specbatch.results.collect.export import Export, ExportFormat, JsonLines, OpenAILines
from specbatch.results.collect.export_parquet import ParquetRows
from specbatch.results.collect.join import JoinedRow
from specbatch.results.collect.lines import error_code
from specbatch.results.collect.output import Output, explained
from specbatch.results.rows import OpenAIForm

_NO_ROW = (ValueError, TypeError, OverflowError)  # what a form raises for a line that is no row after all


def errors_beside(out: Path) -> Path:
    """Where error rows go unless told otherwise: out.jsonl -> out.errors.jsonl."""
    return out.with_name(f"{out.stem}.errors.jsonl")


class Outputs:
    """Writes joined rows; `open` makes the files, `commit` shows all of them, `discard` must be called in the end.

    Args:
        out: for results; None counts rows and writes nothing.
        errors: for error rows. None: beside `out` where that is a file, made when the first one comes.
        tmp: for temporary files.
        form: how result rows are written.
        openai: for rows that did not come in the OpenAI form.

    Attributes:
        results: result rows so far.
        errors: code -> error rows so far.
    """

    def __init__(
        self, out: Path | BinaryIO | None, errors: Path | None, tmp: Path, form: ExportFormat, openai: OpenAIForm
    ) -> None:
        self.results = 0
        self.errors: Counter[str] = Counter()
        self._tmp = tmp
        self._form = form
        self._openai = openai
        self._beside = errors_beside(out) if errors is None and isinstance(out, Path) else None
        self._errors_target = errors
        self._out = None if out is None else Output(out, tmp)
        self._errors_out: Output | None = None
        self._export: Export | None = None
        self._errors_export: Export | None = None

    def open(self) -> None:
        """Makes the files.

        Raises:
            ResultsError: one cannot be made.
        """
        if self._out is not None:
            self._out.open()
            self._export = self._make_export(self._out)
            if self._errors_target is not None:
                self._open_errors(self._errors_target)

    def write(self, row: JoinedRow) -> None:
        """One row, which must come in input order.

        Raises:
            ResultsError: it could not be written, or is no row after all.
        """
        index, is_error, line = row
        try:
            if is_error:
                self._write_error(line)
            else:
                self.results += 1
                if self._export:
                    self._export.write(line)
        except _NO_ROW as error:
            raise _unreadable(f"row {index}", error) from error

    def _write_error(self, line: bytes) -> None:
        self.errors[error_code(line)] += 1
        if self._beside and not self._errors_export:
            self._open_errors(self._beside)
        if self._errors_export:
            self._errors_export.write(line)

    def commit(self) -> list[tuple[str, Path | str]]:
        """Shows the files, results last; gives what is in each.

        Raises:
            ResultsError: one could not be finished; those before it are there.
            BrokenPipeError: the reader of a stream went away.
        """
        written: list[tuple[str, Path | str]] = []
        try:
            for export in (self._errors_export, self._export):
                if export:
                    export.close()
        except _NO_ROW as error:
            raise _unreadable("a row", error) from error
        if self._errors_out:
            self._errors_out.commit()
            written.append((f"{self.errors.total():,} errors", self._errors_out.place))
        elif self._beside:
            with explained(self._beside, "remove the errors of an earlier collect"):
                self._beside.unlink(missing_ok=True)
        if self._out:
            self._out.commit()
            written.insert(0, (f"{self.results:,} rows", self._out.place))
        return written

    def discard(self) -> None:
        """Removes what was not committed; a second call does nothing."""
        for export in (self._errors_export, self._export):
            with contextlib.suppress(Exception):  # a writer in mid-file may say anything
                if export:
                    export.close()
        for output in (self._errors_out, self._out):
            if output:
                output.discard()

    def _make_export(self, output: Output) -> Export:
        if self._form == "parquet":
            return ParquetRows(output.file)
        return OpenAILines(output.file, self._openai) if self._form == "openai" else JsonLines(output.file)

    def _open_errors(self, target: Path) -> None:
        self._errors_out = output = Output(target, self._tmp)
        output.open()
        as_openai = self._form == "openai"
        self._errors_export = (
            OpenAILines(output.file, self._openai, errors=True) if as_openai else JsonLines(output.file)
        )


def _unreadable(what: str, error: Exception) -> ResultsError:
    return ResultsError(
        f"{what} cannot be read: {error}",
        remedy="was it written by a newer release of specbatch? collect it with that one, or with --format jsonl",
    )
