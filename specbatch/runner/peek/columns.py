"""The columns of a dataset's first rows: their types, and what becomes of each."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from specbatch.api.dataset import DatasetSpec
from specbatch.runner.dataset.bad_rows import RowError
from specbatch.runner.dataset.lines import RawRow
from specbatch.runner.rows.carried import carried_columns, is_option
from specbatch.runner.rows.forms import RowForm, own_columns
from specbatch.runner.rows.row_reader import fields_of

_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", list: "list", dict: "object"}


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """A column.

    Args:
        name: its name.
        types: of its values, as JSON calls them; null is counted in `absent`.
        absent: rows in which it is missing or null.
        use: prompt, id, answer, option, carried (into the result), or left out; "" where that is not decided.
    """

    name: str
    types: tuple[str, ...]
    absent: int
    use: str


def columns_of(raws: Sequence[RawRow], dataset: DatasetSpec, form: RowForm | None) -> list[Column]:
    """The columns of all rows that can be read, in the order in which they first come."""
    rows = []
    for raw in raws:
        with suppress(RowError, RecursionError):
            rows.append(fields_of(raw))
    found: dict[str, list[Any]] = {}
    own: set[str] = set()
    for row in rows:
        own |= set(own_columns(row, form)) if form else set()
        for name, value in row.items():
            values = found.setdefault(name, [])
            if value is not None:
                values.append(value)
    return [
        Column(
            name=name,
            types=tuple(dict.fromkeys(_TYPES.get(type(value), type(value).__name__) for value in values)),
            absent=len(rows) - len(values),
            use=_use(name, next(iter(values), None), dataset, own) if form else "",
        )
        for name, values in found.items()
    ]


def _use(name: str, value: Any, dataset: DatasetSpec, own: Collection[str]) -> str:
    ids = {dataset.id_field, "custom_id"}
    tests = (
        (name in ids, "id"),
        (name == dataset.answer_field, "answer"),
        (name in own and name not in dataset.ignore_fields, "prompt"),
        (is_option(name, value, dataset.ignore_fields), "option"),
    )
    use = next((use for holds, use in tests if holds), "left out")
    with suppress(RowError):
        return "carried" if use == "left out" and carried_columns({name: value}, dataset, ()) else use
    return "nested too deeply"
