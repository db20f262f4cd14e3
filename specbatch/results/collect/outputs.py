"""The files that collect writes together: rows in the wanted form, and error rows beside them."""

from __future__ import annotations

import contextlib
from collections import Counter
from functools import partial
from pathlib import Path
from typing import BinaryIO

from specbatch.errors import ResultsError
from specbatch.results.collect.export import Export, ExportFormat, make_export
from specbatch.results.collect.join import JoinedRow
from specbatch.results.collect.lines import error_code
from specbatch.results.collect.output import Output, explained
from specbatch.results.rows import OpenAIForm

_NO_ROW = (ValueError, TypeError, OverflowError)  # what a form raises for a line that is no row after all


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
        self._errors_asked = errors is not None
        self._make_export = partial(make_export, form=form, openai=openai)
        beside = out.with_name(f"{out.stem}.errors.jsonl") if isinstance(out, Path) else None  # of out.jsonl
        target = errors or beside
        self._out = None if out is None else Output(out, tmp)
        self._errors_out = None if out is None or target is None else Output(target, tmp)
        self._export: Export | None = None
        self._errors_export: Export | None = None

    def open(self) -> None:
        """Makes the files.

        Raises:
            ResultsError: one cannot be made.
        """
        if self._out:
            self._out.open()
            self._export = self._make_export(self._out.file)
        if self._errors_asked:
            self._open_errors()

    def _open_errors(self) -> None:
        if self._errors_out and not self._errors_export:
            self._errors_out.open()
            self._errors_export = self._make_export(self._errors_out.file, errors=True)

    def write(self, row: JoinedRow) -> None:
        """One row, which must come in input order.

        Raises:
            ResultsError: it could not be written, or is no row after all.
        """
        index, is_error, line = row
        try:
            if is_error:
                self.errors[error_code(line)] += 1
                self._open_errors()
            else:
                self.results += 1
            export = self._errors_export if is_error else self._export
            if export:
                export.write(line)
        except _NO_ROW as error:
            raise _unreadable(f"row {index}", error) from error

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
        if self._errors_out and self._errors_export:
            self._errors_out.commit()
            written.append((f"{self.errors.total():,} errors", self._errors_out.place))
        elif self._errors_out:
            with explained(self._errors_out.place, "remove the errors of an earlier collect"):
                Path(self._errors_out.place).unlink(missing_ok=True)
        if self._out:
            self._out.commit()
            written.insert(0, (f"{self.results:,} rows", self._out.place))
        return written

    def discard(self) -> None:
        """Removes what was not committed; a second call does nothing."""
        for export in (self._errors_export, self._export):
            with contextlib.suppress(Exception):  # a writer in mid-file may raise anything
                if export:
                    export.close()
        for output in (self._errors_out, self._out):
            if output:
                output.discard()


def _unreadable(what: str, error: Exception) -> ResultsError:
    return ResultsError(
        f"{what} cannot be read: {error}",
        remedy="was it written by a newer release of specbatch? collect it with that one, or with --format jsonl",
    )
