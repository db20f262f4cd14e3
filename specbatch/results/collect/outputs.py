"""The files that collect writes together: rows in the wanted form, and error rows beside them."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

from specbatch.errors import ResultsError
from specbatch.formatting import pluralize
from specbatch.results.collect.export import Export, ExportPlan
from specbatch.results.collect.formats import compressing, uncompressed
from specbatch.results.collect.join import JoinedRow
from specbatch.results.collect.lines import error_code
from specbatch.results.collect.output import Output, explained
from specbatch.results.collect.result_table import ResultTable

_NO_ROW = (ValueError, TypeError, OverflowError)  # what a form raises for a line that is no row after all


class OutputFile:
    """An output in a form, and compressed as its name says; `output` has the rules of when to call what."""

    def __init__(self, output: Output) -> None:
        self.output = output
        self._file: BinaryIO | None = None
        self._export: Export | None = None

    @property
    def export(self) -> Export | None:
        """What takes the rows, once it is open."""
        return self._export

    def open(self, make_export: Callable[[BinaryIO], Export]) -> None:
        """Makes the file; ResultsError where that fails."""
        self.output.open()
        name = self.output.place.name if isinstance(self.output.place, Path) else ""
        self._file = compressing(self.output.file, name)
        self._export = make_export(self._file)

    @property
    def formulas(self) -> int:
        """Cells so far that a spreadsheet would run."""
        return self._export.formulas if isinstance(self._export, ResultTable) else 0

    def end(self) -> None:
        """After the last row; a second call does nothing."""
        export, file, self._export, self._file = self._export, self._file, None, None
        try:
            if export:
                export.close()
        finally:
            if file and file is not self.output.file:
                file.close()


class Outputs:
    """Writes joined rows; `open` makes the files, `commit` shows all of them, `discard` must be called in the end.

    Args:
        out: for results; None counts rows and writes nothing.
        errors: for error rows. None: beside `out` where that is a file, made when the first one comes.
        tmp: for temporary files.
        plan: how rows are written.

    Attributes:
        results: result rows so far.
        errors: code -> error rows so far.
    """

    def __init__(self, out: Path | BinaryIO | None, errors: Path | None, tmp: Path, plan: ExportPlan) -> None:
        self.results = 0
        self.errors: Counter[str] = Counter()
        self._plan = plan
        self._errors_asked = errors is not None
        beside = out.with_name(f"{Path(uncompressed(out.name)).stem}.errors.jsonl") if isinstance(out, Path) else None
        target = errors or beside
        self._out = None if out is None else OutputFile(Output(out, tmp))
        self._errors_out = None if out is None or target is None else OutputFile(Output(target, tmp))

    def open(self) -> None:
        """Makes the files.

        Raises:
            ResultsError: one cannot be made.
        """
        if self._out:
            self._out.open(self._plan.rows)
        if self._errors_asked:
            self._open_errors()

    def _open_errors(self) -> None:
        if self._errors_out and not self._errors_out.export:
            self._errors_out.open(self._plan.error_rows)

    def write_all(self, rows: Iterable[JoinedRow]) -> None:
        """Rows in input order; errors as `write`."""
        for row in rows:
            self.write(row)

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
            file = self._errors_out if is_error else self._out
            if file and file.export:
                file.export.write(line)
        except _NO_ROW as error:
            raise unreadable(f"row {index}", error) from error

    def commit(self) -> list[tuple[str, Path | str]]:
        """Shows the files, results last; gives what is in each.

        Raises:
            ResultsError: one could not be finished; those before it are there.
            BrokenPipeError: the reader of a stream went away.
        """
        written: list[tuple[str, Path | str]] = []
        what = f"{self.results:,} rows as {self._plan.form}{formulas_note(self._out.formulas if self._out else 0)}"
        has_errors = self._errors_out is not None and self._errors_out.export is not None
        try:
            for file in (self._errors_out, self._out):
                if file:
                    file.end()
        except _NO_ROW as error:
            raise unreadable("a row", error) from error
        if self._errors_out and has_errors:
            self._errors_out.output.commit()
            written.append((pluralize(self.errors.total(), "error"), self._errors_out.output.place))
        elif self._errors_out:
            place = self._errors_out.output.place
            with explained(place, "remove the errors of an earlier collect"):
                Path(place).unlink(missing_ok=True)
        if self._out:
            self._out.output.commit()
            written.insert(0, (what, self._out.output.place))
        return written

    def discard(self) -> None:
        """Removes what was not committed; a second call does nothing."""
        for file in (self._errors_out, self._out):
            if file:
                with contextlib.suppress(Exception):  # a writer in mid-file may raise anything
                    file.end()
                file.output.discard()


def formulas_note(cells: int) -> str:
    """What a person should know before a spreadsheet opens the file."""
    return f"; {pluralize(cells, 'cell')} a spreadsheet would run as a formula: import as text" if cells else ""


def unreadable(what: str, error: Exception) -> ResultsError:
    """The error for a line of the run that is no row."""
    return ResultsError(
        f"{what} cannot be read: {error}",
        remedy="was it written by a newer release of specbatch? collect it with that one, or with --format jsonl",
    )
