"""Finds the form of a dataset's rows in the first of them, once for a run: no later row is read in another way in silence."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from specbatch.api.dataset import DatasetSpec
from specbatch.errors import DatasetError, SpecbatchError
from specbatch.formatting import first_lines
from specbatch.redact import without_secrets
from specbatch.runner.dataset.bad_rows import RowError, shown
from specbatch.runner.dataset.dataset import Dataset
from specbatch.runner.dataset.lines import RawRow
from specbatch.runner.rows.forms import FormName, RowForm
from specbatch.runner.rows.openai_lines import is_openai_line
from specbatch.runner.rows.prompt_template import TEXT, PromptTemplate
from specbatch.runner.rows.row_options import find_option
from specbatch.runner.rows.row_reader import fields_of
from specbatch.runner.rows.training_sets import ROLES

HEAD_ROWS = 100
_HEAD_BYTES = 16 << 20
_CONVERSATIONS = ("conversations", "conversation")
_ANSWERS = ("output", "response", "answer", "completion", "chosen")
_MOST = 0.9  # of the rows must have a form that is taken for the dataset's; the others become error rows
_SHOWN = 5
_LONGEST_NAME = 64


class Candidate(NamedTuple):
    """A form that a row may have, and how a person picks it."""

    form: RowForm
    choice: str  # of --set

    @property
    def is_request(self) -> bool:
        """Whether it is a form in which requests are written: rows of these may stand in one file."""
        return self.form.name is FormName.OPENAI or self.form.columns in {("prompt",), ("messages",)}


@dataclass(frozen=True, slots=True)
class Head:
    """The first rows of a dataset.

    Attributes:
        rows: the columns of those that could be read, without those that spec.dataset ignores.
        texts: how many are lines of text.
        unread: the columns that are not among them, and why, for people.
    """

    rows: Sequence[Mapping[str, Any]]
    texts: int = 0
    unread: str = ""

    @classmethod
    def of(cls, raws: Iterable[RawRow], ignored: Sequence[str] = ()) -> Head:
        """Of so many rows, and of so many bytes, that looking at them costs nothing. What ends the dataset early is for the run to find."""
        rows, texts, size, unread = [], 0, 0, ""
        try:
            for at, raw in enumerate(raws, 1):
                texts += raw.is_text
                unread = unread or raw.unread
                size += len(raw.data)
                with suppress(RowError, RecursionError):
                    fields = fields_of(raw)
                    rows.append({name: value for name, value in fields.items() if name not in ignored})
                if at == HEAD_ROWS or size > _HEAD_BYTES:
                    break
        except SpecbatchError:
            if not rows and not texts:
                raise
        return cls([row for row in rows if row], texts, unread)

    @property
    def columns(self) -> list[str]:
        """The names of all columns, in order of their first row."""
        return list(dict.fromkeys(name for row in self.rows for name in row))


def form_of(dataset: Dataset, spec: DatasetSpec) -> RowForm:
    """The form of a dataset that is not read yet; errors as `find_form` and `Dataset.head`."""
    return find_form(spec, Head.of(dataset.head(), spec.ignore_fields))


def find_form(dataset: DatasetSpec, head: Head) -> RowForm:
    """The form of the dataset's rows.

    Args:
        dataset: spec.dataset: where it says what the form is, that is it.
        head: the first rows.

    Raises:
        DatasetError: several forms fit, or none does; with the --set that decides.
    """
    form = RowForm.of(dataset)
    if form.name is FormName.REQUESTS and head.rows:
        form = _decide(dataset, head)
    if form.name is FormName.ALPACA and "input" not in head.columns and "context" in head.columns:
        form = replace(form, columns=("instruction", "context"))  # as databricks-dolly-15k calls it
    if form.name is FormName.SHAREGPT and dataset.prompt_field is None and _CONVERSATIONS[0] not in head.columns:
        form = replace(form, columns=next(((name,) for name in _CONVERSATIONS if name in head.columns), form.columns))
    if form.name not in {FormName.REQUESTS, FormName.OPENAI}:
        _check_columns(dataset, head, form)
    return replace(form, drops_answer=form.drops_answer or any(ends_with_answer(row, form) for row in head.rows))


def _decide(dataset: DatasetSpec, head: Head) -> RowForm:
    fitting = [list(candidates(row)) for row in head.rows]
    fitting = [found for found in fitting if found]
    if not fitting:
        raise _no_prompt(dataset, head)
    every = list(dict.fromkeys(candidate for found in fitting for candidate in found))
    counts = {candidate: sum(candidate in found for found in fitting) for candidate in every}
    usual = [candidate for candidate in every if counts[candidate] >= _MOST * len(fitting)]
    if len(usual) == 1:
        return RowForm() if usual[0].is_request else usual[0].form
    if not usual and sum(any(one.is_request for one in found) for found in fitting) >= _MOST * len(fitting):
        return RowForm()
    raise _several(dataset, head, {candidate: counts[candidate] for candidate in usual or every})


def candidates(row: Mapping[str, Any]) -> Iterator[Candidate]:
    """The forms that a row may have."""
    row = {name: value for name, value in row.items() if value is not None}  # null is absent: so tables hold several
    if is_openai_line(row):
        yield Candidate(RowForm(FormName.OPENAI), "dataset.format=openai")
        return
    if "messages" in row:
        yield Candidate(RowForm(FormName.MESSAGES, ("messages",)), "dataset.format=messages")
    if any(isinstance(row.get(name), list) for name in _CONVERSATIONS):
        column = next(name for name in _CONVERSATIONS if name in row)
        yield Candidate(RowForm(FormName.SHAREGPT, (column,), drops_answer=True), "dataset.format=sharegpt")
    is_alpaca = isinstance(row.get("instruction"), str)
    if is_alpaca:
        yield Candidate(RowForm(FormName.ALPACA, ("instruction", "input")), "dataset.format=alpaca")
    for name in ("prompt", "question", "text"):
        if name in row and not (name == "text" and is_alpaca and "output" in row):  # Alpaca's own copy of all three
            yield Candidate(RowForm(FormName.PROMPT, (name,)), f"dataset.promptField={name}")
    if isinstance(row.get("question"), str) and isinstance(
        row.get("context"), str
    ):  # as SQuAD: part of the prompt or not?
        template = """'dataset.template="{{ context }}\\n\\n{{ question }}"'"""
        yield Candidate(RowForm(FormName.TEMPLATE, ("context", "question")), template)


def ends_with_answer(row: Mapping[str, Any], form: RowForm) -> bool:
    """Whether the conversation of a row ends with the assistant's turn."""
    asks_more = is_openai_line(row) or row.get("continue_final_message") is True
    if form.name in {FormName.OPENAI, FormName.ALPACA} or asks_more:
        return False
    turns = [row[name][-1] for name in form.columns if isinstance(row.get(name), list) and row[name]]
    roles = [turn.get("role") or ROLES.get(str(turn.get("from"))) for turn in turns if isinstance(turn, dict)]
    return "assistant" in roles


def _check_columns(dataset: DatasetSpec, head: Head, form: RowForm) -> None:
    """The columns that the spec names are there, in one of the rows at least."""
    names, said_by = (
        frozenset(form.columns[:1]),
        "dataset.format" if dataset.prompt_field is None else "dataset.promptField",
    )
    if dataset.template is not None:
        names, said_by = PromptTemplate(dataset.template).required, "dataset.template"
    columns = head.columns or [TEXT]
    looked_at = len(head.rows) or head.texts
    for name in sorted(names.difference(columns)) if looked_at else ():
        nearest = difflib.get_close_matches(name, columns, n=1)
        default = f"; one that some rows lack is written {{{{ {name} | default('') }}}}" if dataset.template else ""
        raise DatasetError(
            f"{said_by} names {shown(name)}, and none of the {looked_at} rows looked at has such a column",
            where=without_secrets(dataset.uri),
            remedy=f"{f'did you mean {nearest[0]}? ' if nearest else ''}the columns are {shown(columns, limit=300)}{default}",
        )


def _several(dataset: DatasetSpec, head: Head, counts: Mapping[Candidate, int]) -> DatasetError:
    lines = [
        f"\n    {one.form.title}, in {count} of the {len(head.rows)} rows looked at: --set {one.choice}"
        for one, count in counts.items()
    ]
    return DatasetError(
        f"what the prompt is can be read in {len(lines)} ways{''.join(lines)}",
        where=without_secrets(dataset.uri),
        remedy="choose one by its --set, or in the spec; or write a prompt of your own over the columns in dataset.template",
    )


def _no_prompt(dataset: DatasetSpec, head: Head) -> DatasetError:
    values = {name: next((row[name] for row in head.rows if row.get(name) is not None), None) for name in head.columns}
    longest_first = sorted(values, key=lambda name: -_length(values[name]))
    ways = [way for name in longest_first if (way := _way(name, values[name]))]
    listed = "".join(f"\n    {way}" for way in first_lines(ways, _SHOWN))
    return DatasetError(
        f"no prompt is found in the first {len(head.rows)} rows: their columns are {shown(head.columns, limit=300)}",
        where=without_secrets(dataset.uri),
        remedy=f"name the column of the prompt, or write one over the columns in dataset.template{listed}",
    )


def _length(value: Any) -> int:
    """Of a text, or of the first one in a list."""
    text = value[0] if isinstance(value, list) and value else value
    return len(text) if isinstance(text, str) else 0


def _way(name: str, value: Any) -> str:
    """The --set by which a column would be the prompt; empty where it hardly is."""
    if (
        len(name) > _LONGEST_NAME
        or name in {"id", "custom_id"}
        or name in _ANSWERS
        or (find_option(name) and not isinstance(value, str))
    ):
        return ""
    if isinstance(value, str) or (isinstance(value, list) and value and isinstance(value[0], dict)):
        return f"--set {shlex.quote(f'dataset.promptField={name}')}"
    if isinstance(value, list) and value and isinstance(value[0], str) and name.isidentifier():
        return f"--set 'dataset.template={{{{ {name}[0] }}}}'"
    return ""
