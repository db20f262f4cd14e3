"""What became of each row of the input, in input order: its text, its error, or that it has no answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from specbatch.errors import ResultsError
from specbatch.results.collect.join import JoinedRow
from specbatch.results.collect.lines import is_openai
from specbatch.results.rows import ResultRow
from specbatch.results.wire import decode_error, decode_result, encode_json

NAMES = ("generated_text", "finish_reason", "error_code", "error_message")
"""The columns of an answer."""
MISSING = "missing"  # beside the codes of rows.ErrorCode


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Of one row; `text` is None where it has none, and `error_code` says why. `openai` is its line where it has the OpenAI form."""

    id: str | None = None
    text: str | None = None
    finish_reason: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    openai: bytes | None = None

    @property
    def cells(self) -> tuple[str | None, ...]:
        """In the columns of NAMES."""
        return self.text, self.finish_reason, self.error_code, self.error_message

    @property
    def known(self) -> Mapping[int, str | None]:
        """Column -> cell of those that say something; of a row without an answer the text is null."""
        return {at: cell for at, cell in enumerate(self.cells) if cell is not None or (at == 0 and self.error_code)}


_NONE = Answer(error_code=MISSING, error_message="the run has no answer for this row")


class Answers:
    """Gives the answers to rows that are asked for in input order.

    Attributes:
        results: rows with an answer so far.
        errors: code -> error rows so far; missing ones not counted.
    """

    def __init__(self, rows: Iterator[JoinedRow], where: str) -> None:
        self._rows = rows
        self._where = where
        self._next = next(rows, None)
        self.results = 0
        self.errors: Counter[str] = Counter()

    def of(self, index: int) -> Answer:
        """That of a row; ValueError where the run's line is no row."""
        if self._next is None or self._next[0] != index:
            return _NONE
        _, is_error, line = self._next
        self._next = next(self._rows, None)
        openai = line if is_openai(line) else None
        if is_error:
            error = decode_error(line)
            self.errors[error.code.value] += 1
            return Answer(id=error.id, error_code=error.code.value, error_message=error.message, openai=openai)
        row = decode_result(line)
        self.results += 1
        return Answer(id=row.id, text=_text(row), finish_reason=row.finish_reason, openai=openai)

    def end(self, rows: int, expected: int | None) -> None:
        """After the last row of the input: every answer must have had its row.

        Raises:
            ResultsError: the input has another number of rows than the run.
        """
        if self._next is not None:
            raise _other_dataset(f"it has {rows:,} rows, and the run answered its row {self._next[0]:,}", self._where)
        if expected is not None and rows != expected:
            raise _other_dataset(f"it has {rows:,} rows, and the run's had {expected:,}", self._where)


def _text(row: ResultRow) -> str:
    """The answer in one cell: of several completions the texts as a JSON list, of one with tool calls a JSON object that has both."""
    if row.choices:
        return encode_json([choice.text for choice in row.choices]).decode()
    return encode_json({"content": row.text, "tool_calls": row.tool_calls}).decode() if row.tool_calls else row.text


def check_same(answer: Answer, index: int, row_id: str, where: str) -> None:
    """That an answer is to the row that stands at its index.

    Raises:
        ResultsError: it has another id.
    """
    if answer.id is not None and answer.id != row_id:
        raise _other_dataset(f"row {index:,} has the id {row_id!r}, and the run answered {answer.id!r} there", where)


def _other_dataset(how: str, where: str) -> ResultsError:
    return ResultsError(
        f"the dataset is not the one that was answered: {how}",
        where=where,
        remedy="name the dataset as it was: --input FILE; or collect without --join",
    )
