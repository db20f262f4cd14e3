"""Looks at the first rows of a dataset, as a run would read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from specbatch.api.job import Spec
from specbatch.errors import DatasetError
from specbatch.redact import without_secrets
from specbatch.results.rows import ErrorCode
from specbatch.runner.dataset.bad_rows import RowError
from specbatch.runner.dataset.dataset import Dataset
from specbatch.runner.dataset.lines import RawRow
from specbatch.runner.peek.columns import Column, columns_of
from specbatch.runner.peek.encoding import Encoding
from specbatch.runner.peek.sharing import SharedPrompts, Sharing
from specbatch.runner.rows.find_form import Head, find_form
from specbatch.runner.rows.form_text import form_sentence
from specbatch.runner.rows.forms import RowForm, RowRules
from specbatch.runner.rows.row import BadRow, Row
from specbatch.runner.rows.row_reader import RowReader

LOOKED_AT = 1000
_BYTES = 64 << 20


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A row as the model will see it; `tokens` is None where there is no tokenizer, and `text` then what goes into the chat template."""

    index: int
    id: str
    text: str
    tokens: int | None = None
    answer: str | None = None
    columns: dict[str, Any] | None = None


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """A row that would go to the errors file."""

    index: int
    line: int
    code: ErrorCode
    message: str


class Peek(msgspec.Struct, frozen=True, kw_only=True):
    """What was found.

    Args:
        dataset: its URI.
        kind: of its first file.
        rows: how many there are, exactly or as estimated from the bytes read; None where nobody can tell.
        rows_exact: which of the two.
        left_out: files of a folder that are passed over, in words.
        prompts: how they are read from the rows, in words; empty where that cannot be decided: `problem` says why.
        columns: of the rows looked at.
        unread: columns that are not, and why: pictures, say.
        template: what a prompt is wrapped in, in words.
        looked_at: rows that were read, the first ones.
        sharing: what the prompts of those of them that would not be refused begin with alike.
        refused: those of them that would be refused.
        shown: the first rows that would not.
        problem: why the form could not be decided, or where reading ended early.
    """

    dataset: str
    kind: str
    rows: int | None
    rows_exact: bool
    left_out: str
    prompts: str
    columns: Sequence[Column]
    unread: str
    template: str
    looked_at: int
    sharing: Sharing
    refused: Sequence[Refused]
    shown: Sequence[Shown]
    problem: DatasetError | None

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        plain = {name: value for name in self.__struct_fields__ if name != "problem" for value in [getattr(self, name)]}
        fields: dict[str, Any] = msgspec.to_builtins(plain)
        return {**fields, "problem": str(self.problem) if self.problem else None}


def peek(spec: Spec, encoding: Encoding, rows: int) -> Peek:
    """Looks at the first rows.

    Args:
        spec: of the job.
        encoding: what rows become, where a tokenizer can be had.
        rows: how many to show.

    Raises:
        DatasetError: nothing there, or not readable.
        OutOfReachError: the store could not be reached.
    """
    dataset = Dataset(spec.dataset)
    dataset.check_readable()
    raws, problem = first_rows(dataset, LOOKED_AT, _BYTES)
    head = Head.of(raws, spec.dataset.ignore_fields)
    form, prompts = RowForm.of(spec.dataset), ""
    try:
        form = find_form(spec.dataset, head)
        prompts = form_sentence(spec.dataset, form, head)
    except DatasetError as error:
        problem = error
    reader = RowReader(RowRules(spec.decoding, spec.dataset, encoding.target, found=form))
    shown: list[Shown] = []
    refused: list[Refused] = []
    shared = SharedPrompts("tokens" if encoding.encoder is not None else "bytes")
    for raw in raws if prompts else ():
        row = reader.read(raw)
        bad = _seen(row, encoding, shown, shared, wanted=rows) if isinstance(row, Row) else row
        if bad is not None:
            refused.append(Refused(index=bad.index, line=bad.line_number, code=bad.code, message=bad.message))
    whole = dataset.rows_in_all is not None
    return Peek(
        dataset=without_secrets(spec.dataset.uri),
        kind=dataset.kind,
        rows=dataset.estimated_rows,
        rows_exact=whole or dataset.knows_rows,
        left_out=dataset.left_out,
        prompts=prompts,
        columns=columns_of(raws, spec.dataset, form if prompts else None),
        unread=", ".join(dict.fromkeys(raw.unread for raw in raws if raw.unread)),
        template=encoding.text,
        looked_at=len(raws),
        sharing=shared.found(len(raws)),
        refused=refused,
        shown=shown,
        problem=problem,
    )


def first_rows(dataset: Dataset, count: int, most_bytes: int) -> tuple[list[RawRow], DatasetError | None]:
    """The first rows, so many or of so many bytes; and what is wrong behind the last of them."""
    raws: list[RawRow] = []
    size = 0
    try:
        for raw in dataset.rows():
            raws.append(raw)
            size += len(raw.data)
            if len(raws) == count or size > most_bytes:
                break
        else:
            return raws, None
    except DatasetError as error:
        return raws, error
    return raws, None


def _seen(row: Row, encoding: Encoding, shown: list[Shown], shared: SharedPrompts, *, wanted: int) -> BadRow | None:
    """Counts the row, and adds it to those shown while they are fewer than wanted; returned is what refuses it."""
    try:
        text, tokens = encoding.of(row)
    except RowError as error:
        return row.refused(error.code, error.message)
    shared.add(row.index, text if tokens is None else tokens, row.decoding.n)
    if len(shown) < wanted:
        count = None if tokens is None else len(tokens)
        shown.append(Shown(index=row.index, id=row.id, text=text, tokens=count, answer=row.answer, columns=row.columns))
    return None
