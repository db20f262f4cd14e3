"""What `collect --join` writes: one file, in which every row of the input has a line."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from specbatch.formatting import pluralize
from specbatch.results.collect.answers import Answer, Answers, check_same
from specbatch.results.collect.beside import Beside, Input, make_beside
from specbatch.results.collect.beside_batches import BesideBatches
from specbatch.results.collect.formats import ExportFormat, compressing
from specbatch.results.collect.join import JoinedRow
from specbatch.results.collect.output import Output
from specbatch.results.collect.outputs import formulas_note, unreadable


class JoinOutputs:
    """As Outputs, with the rows of the input.

    Args:
        out: None counts rows and writes nothing.
        tmp: for temporary files.
        form: of the output.
        source: the input.
        dataset_rows: that the run had; None where that is not known.

    Attributes:
        results: rows with an answer so far.
        errors: code -> error rows so far.
    """

    def __init__(
        self, out: Path | BinaryIO | None, tmp: Path, form: ExportFormat, source: Input, dataset_rows: int | None
    ) -> None:
        self.results = 0
        self.errors: Counter[str] = Counter()
        self._form = form
        self._source = source
        self._dataset_rows = dataset_rows
        self._rows = 0
        self._output = None if out is None else Output(out, tmp)
        self._file: BinaryIO | None = None
        self._beside: Beside | None = None
        self._batches: BesideBatches | None = None
        self._in_batches = form == source.form == "parquet"  # types stay as they are
        self._note = ""

    def open(self) -> None:
        """Makes the file, once the input was looked through for its columns; errors as `make_beside`."""
        if self._output:
            self._output.open()
            name = self._output.place.name if isinstance(self._output.place, Path) else ""
            self._file = compressing(self._output.file, name)
            if self._in_batches:
                self._batches = BesideBatches(self._file)
            else:
                self._beside = make_beside(self._file, self._form, name, self._source)

    def write_all(self, rows: Iterator[JoinedRow]) -> None:
        """Every row of the input with its answer.

        Raises:
            ResultsError: the input is another one, or a row of the run cannot be read.
        """
        answers = Answers(rows, self._source.where)
        if self._in_batches:
            self._join_batches(answers)
        else:
            self._join_rows(answers)
        answers.end(self._rows, self._dataset_rows)
        self.results, self.errors = answers.results, answers.errors

    def _join_rows(self, answers: Answers) -> None:
        for row in self._source.rows():
            answer = _answer(answers, row.index)
            check_same(answer, row.index, self._source.id_of(row), self._source.where)
            if self._beside:
                self._beside.write(row, answer)
            self._rows = row.index + 1

    def _join_batches(self, answers: Answers) -> None:
        for batch in self._source.batches():
            first, self._rows = self._rows, self._rows + batch.num_rows
            found = [_answer(answers, index) for index in range(first, self._rows)]
            if self._batches:
                self._batches.write(batch, found)

    def commit(self) -> list[tuple[str, Path | str]]:
        """Shows the file.

        Raises:
            ResultsError: it could not be finished.
            BrokenPipeError: the reader of a stream went away.
        """
        if not self._output:
            return []
        self._end()
        self._output.commit()
        return [(f"{pluralize(self._rows, 'row')} of the input as {self._form}{self._note}", self._output.place)]

    def discard(self) -> None:
        """Removes what was not committed; a second call does nothing."""
        with contextlib.suppress(Exception):  # a writer in mid-file may raise anything
            self._end()
        if self._output:
            self._output.discard()

    def _end(self) -> None:
        beside, file = self._beside or self._batches, self._file
        self._beside = self._batches = self._file = None
        if beside:
            self._note = formulas_note(beside.formulas)
            beside.close()
        if file and self._output and file is not self._output.file:
            file.close()


def _answer(answers: Answers, index: int) -> Answer:
    try:
        return answers.of(index)
    except ValueError as error:
        raise unreadable(f"row {index}", error) from error
