"""`collect --join`: the rows of the input with their answers beside them, one line for each, in input order.

A JSON object keeps its bytes, and gets the columns of an answer as its last keys. What is no object becomes one: a line of text {"prompt":
...}, a line that could not be read {"line": ...}. A request of OpenAI's batch API becomes its response. In tables an answer has columns after
those of the input.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO, Protocol

import msgspec

from specbatch.results.collect.answers import NAMES, Answer
from specbatch.results.collect.columns import Column, ColumnKinds, free_name
from specbatch.results.collect.export import make_table
from specbatch.results.collect.formats import ExportFormat
from specbatch.results.wire import decode_object, encode_json

_PREFIX = "specbatch_"
_KEYS: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])
_SPACE = b" \t\r\n"


class InputRow(Protocol):
    """One row of the dataset as its file holds it: runner.dataset.lines.RawRow."""

    index: int
    data: bytes
    is_text: bool
    fields: Mapping[str, Any] | None


class Input(Protocol):
    """The dataset of a run, read again.

    Attributes:
        form: its own.
        where: its URI, for people.
    """

    form: ExportFormat
    where: str

    def rows(self) -> Iterator[InputRow]:
        """Every row, from the beginning."""

    def batches(self) -> Iterator[Any]:
        """The same as record batches with all their columns, where the form is parquet."""

    def id_of(self, row: Any) -> str:
        """The id that the run gave a row."""


class Beside(Protocol):
    """Writes rows with their answers. OSErrors of the file pass through."""

    @property
    def formulas(self) -> int:
        """Cells so far that a spreadsheet would run."""

    def write(self, row: InputRow, answer: Answer) -> None:
        """One row."""

    def close(self) -> None:
        """After the last row; the file stays open."""


class ObjectLines:
    """A JSON object a line.

    Args:
        file: where they go.
        taken: the keys that the input uses.
    """

    formulas = 0

    def __init__(self, file: BinaryIO, taken: set[str]) -> None:
        self._file = file
        self._names = answer_names(taken)

    def write(self, row: InputRow, answer: Answer) -> None:
        """One row."""
        if answer.openai is not None:
            self._file.write(answer.openai + b"\n")
            return
        said = {self._names[at]: cell for at, cell in answer.known.items()}
        if row.fields is not None:
            self._file.write(encode_json({**row.fields, **said}) + b"\n")
            return
        keys = keys_of(row)
        if keys is None:
            name = "prompt" if row.is_text else "line"
            self._file.write(encode_json({name: row.data.decode("utf-8", "replace"), **said}) + b"\n")
        elif answer.error_code and {"custom_id", "body"} <= keys:  # a request that has no answer yet
            error = {"code": answer.error_code, "message": answer.error_message}
            named = {"custom_id": decode_object(row.data)["custom_id"]}
            self._file.write(encode_json({"id": None, **named, "response": None, "error": error}) + b"\n")
        else:
            # As it is. Line breaks in it stand between its tokens: in strings they are escaped.
            body = b" ".join(row.data.splitlines()).strip(_SPACE)[:-1].rstrip(_SPACE)
            self._file.write(body + (b", " if keys else b"") + encode_json(said)[1:] + b"\n")

    def close(self) -> None:
        """Nothing is left to do."""


class TableRows:
    """A table with the columns of the input, in their order, and those of an answer."""

    def __init__(
        self, file: BinaryIO, form: ExportFormat, name: str, columns: Sequence[Column], *, of_csv: bool = False
    ) -> None:
        self._of_csv = of_csv
        self._inputs = [one.name for one in columns]
        self._table = make_table(file, form, name, [*columns, *map(Column, answer_names(set(self._inputs)))])

    @property
    def formulas(self) -> int:
        """Cells so far that a spreadsheet would run."""
        return self._table.formulas

    def write(self, row: InputRow, answer: Answer) -> None:
        """One row."""
        cells = self._cells(row)
        self._table.write(
            [*cells, *answer.cells], len(row.data) + sum(len(cell) for cell in cells if isinstance(cell, str))
        )

    def close(self) -> None:
        """After the last row; the file stays open."""
        self._table.close()

    def _cells(self, row: InputRow) -> list[Any]:
        if self._of_csv and row.fields is None:  # a record with another number of fields than the header
            found = row.data.decode("utf-8", "replace").split("\0")
            return (found + [""] * len(self._inputs))[: len(self._inputs)]
        values = values_of(row)
        return [values.get(name) for name in self._inputs]


def make_beside(file: BinaryIO, form: ExportFormat, name: str, source: Input) -> Beside:
    """What writes the rows; the input is read once for the names of its columns, and of a Parquet file for their types.

    Raises:
        ResultsError: more columns than a table should have.
    """
    if form in {"csv", "parquet"}:
        kinds = ColumnKinds()
        of_csv = source.form == "csv"
        for row in source.rows():
            if row.fields is not None or not of_csv:
                kinds.see(values_of(row))
        columns = [Column(name, kind) for name, kind in kinds.kinds.items()]
        return TableRows(file, form, name, columns, of_csv=of_csv)
    taken: set[str] = set()
    for row in source.rows():
        keys = row.fields if row.fields is not None else keys_of(row) or ()
        taken.update(key for key in keys if key.endswith(NAMES))
    return ObjectLines(file, taken)


def answer_names(taken: set[str]) -> list[str]:
    """The names of an answer's columns: another one where the input has a column of that name."""
    return [free_name(name, taken, _PREFIX) for name in NAMES]


def keys_of(row: InputRow) -> set[str] | None:
    """The keys of a row that is a JSON object; None where it is none."""
    if row.is_text:
        return None
    try:
        return set(_KEYS.decode(row.data))
    except msgspec.MsgspecError:  # NaN, or half of a surrogate pair, that Python's own reader takes; or no object
        try:
            return set(decode_object(row.data))
        except ValueError:
            return None


def values_of(row: InputRow) -> Mapping[str, Any]:
    """Column -> value of any row."""
    if row.fields is not None:
        return row.fields
    if not row.is_text:
        try:
            return decode_object(row.data)
        except ValueError:
            return {"line": row.data.decode("utf-8", "replace")}
    return {"prompt": row.data.decode("utf-8", "replace")}
