"""Columns of a table made from rows that need not be alike: one type for each, found over all rows before the first is written."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from specbatch.errors import ResultsError

Kind = Literal["string", "int64", "double", "bool"]

MAX_COLUMNS = 1000  # of the input; more are keys that are data, not columns
_EXACT_IN_DOUBLE = 1 << 53
_INT64 = 1 << 63
_encode = json.JSONEncoder(ensure_ascii=False, default=str).encode


@dataclass(frozen=True, slots=True)
class Column:
    """One column: `kind` is its type; as a type of pyarrow's where a table has it already."""

    name: str
    kind: Kind | Any = "string"
    nullable: bool = True


class ColumnKinds:
    """Sees the values of every row, and says of which type each column is.

    Whole numbers are int64, numbers double, and a column whose values are not all of one of these types is text: strings as they are,
    anything else as JSON. So is a number that its type would change: whole numbers beyond 64 bits, or beyond 2^53 beside fractions.
    """

    def __init__(self) -> None:
        self._seen: dict[str, set[str]] = {}

    def see(self, values: Mapping[str, Any]) -> None:
        """One row's values by column.

        Raises:
            ResultsError: there are more columns than a table should have.
        """
        for name, value in values.items():
            seen = self._seen.get(name)
            if seen is None:
                if len(self._seen) == MAX_COLUMNS:
                    raise ResultsError(
                        f"the rows have more than {MAX_COLUMNS:,} different columns: too many for a table",
                        remedy="collect as jsonl, or carry fewer: dataset.columns",
                    )
                seen = self._seen[name] = set()
            if value is not None:
                seen.add(_tag(value))

    @property
    def kinds(self) -> Mapping[str, Kind]:
        """name -> type, in the order in which the columns were seen first."""
        return {name: _kind(seen) for name, seen in self._seen.items()}


def _tag(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        exact = -_EXACT_IN_DOUBLE <= value <= _EXACT_IN_DOUBLE
        return "int" if exact else "long" if -_INT64 <= value < _INT64 else "text"
    return "double" if isinstance(value, float) else "text"


def _kind(seen: set[str]) -> Kind:
    if seen == {"bool"}:
        return "bool"
    if seen and seen <= {"int", "long"}:
        return "int64"
    return "double" if seen and seen <= {"int", "double"} else "string"


def as_text(value: Any) -> str | None:
    """A string as it is, None as None, anything else as JSON."""
    if value is None or isinstance(value, str):
        return value
    return repr(value) if type(value) in (int, float) else _encode(value)  # the same as JSON, at a tenth of the time


def free_name(name: str, taken: Collection[str], prefix: str) -> str:
    """The name, with the prefix before it as often as it takes to be none of `taken`."""
    while name in taken:
        name = f"{prefix}{name}"
    return name
