"""Says how a dataset's rows are read, in one sentence: for the start of a run, the manifest, and a look before."""

from __future__ import annotations

from contextlib import suppress

from specbatch.api.dataset import DatasetSpec
from specbatch.formatting import first_lines, one_line
from specbatch.runner.dataset.bad_rows import RowError
from specbatch.runner.rows.carried import carried_columns
from specbatch.runner.rows.find_form import Head, candidates, ends_with_answer
from specbatch.runner.rows.forms import FormName, RowForm, own_columns

_SHOWN = 5
_NAME_CHARS = 60


def form_sentence(dataset: DatasetSpec, form: RowForm, head: Head) -> str:
    """Where the prompt is, what of a conversation is none of it, and which columns are data."""
    if not head.rows:
        if not head.texts:
            return "none of the first rows could be read"
        return form.title if form.name is FormName.TEMPLATE else "every line is one"
    unread = f"not read: {head.unread}" if head.unread else ""
    parts = [_prompt(form, head), _answers(form, head), _carried(dataset, form, head), unread]
    return "; ".join(part for part in parts if part)


def _prompt(form: RowForm, head: Head) -> str:
    if form.name is not FormName.REQUESTS:
        return form.title
    return " or ".join({one.form.title: None for row in head.rows for one in candidates(row) if one.is_request})


def _answers(form: RowForm, head: Head) -> str:
    """What becomes of assistants' turns at the end."""
    count = sum(ends_with_answer(row, form) for row in head.rows)
    if not count:
        return ""
    return (
        f"the assistant's turn at the end ({count} of the {len(head.rows)} rows looked at) is not shown to the model: "
        "the result has it as answer"
    )


def _carried(dataset: DatasetSpec, form: RowForm, head: Head) -> str:
    columns: dict[str, None] = {}
    for row in head.rows:
        with suppress(RowError):  # a column that is nested too deeply is the row's error
            columns |= dict.fromkeys(carried_columns(row, dataset, own_columns(row, form)) or ())
    shown = ", ".join(first_lines([one_line(name, _NAME_CHARS) for name in columns], _SHOWN))
    return f"into the results, not shown to the model: {shown}" if shown else ""
