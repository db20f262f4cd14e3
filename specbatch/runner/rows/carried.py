"""The columns of a row that its result carries: data, which no prompt was made of."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from specbatch.api.dataset import DatasetSpec
from specbatch.results.rows import ErrorCode
from specbatch.runner.dataset.bad_rows import RowError, shown
from specbatch.runner.rows.row_options import find_option

_MOST_LEVELS = 100  # of nesting: far below what the readers of results take


def carried_columns(fields: Mapping[str, Any], dataset: DatasetSpec, own: Collection[str]) -> dict[str, Any] | None:
    """What the result carries of a row's fields, as they are; None where that is nothing.

    Args:
        fields: of the row.
        dataset: spec.dataset: `columns.carry`, and the names of id and answer, which a result has anyway.
        own: names of what the prompt is made of.

    Raises:
        RowError: a value that is nested too deeply to be written and read again.
    """
    carry = dataset.columns.carry
    if carry == "none" or not fields:
        return None
    if carry == "all":
        left_out = {*own, "custom_id", dataset.id_field, dataset.answer_field}
        columns = {
            name: value
            for name, value in fields.items()
            if name not in left_out and not is_option(name, value, dataset.ignore_fields)
        }
    else:
        columns = {name: fields[name] for name in carry if name in fields}
    for name, value in columns.items():
        if isinstance(value, dict | list) and _levels_exceed(value, _MOST_LEVELS):
            raise RowError(
                ErrorCode.INVALID_ROW,
                f"column {shown(name)} is nested more than {_MOST_LEVELS} levels deep, which no result carries; "
                "leave it out by dataset.columns.carry",
            )
    return columns or None


def is_option(name: str, value: Any, ignored: Collection[str]) -> bool:
    """Whether a column asks for something, and is no data; an empty one of such a name is none either."""
    option = None if name in ignored else find_option(name)
    return option is not None and not option.harmless and (value is None or option.is_meant_by(value))


def _levels_exceed(value: Any, most: int) -> bool:
    level = [value]
    for _ in range(most):
        parts = [part for one in level for part in (one.values() if isinstance(one, dict) else one)]
        level = [part for part in parts if isinstance(part, dict | list)]
        if not level:
            return False
    return True
