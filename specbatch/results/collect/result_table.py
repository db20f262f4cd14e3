"""Result rows as a flat table: columns of our own, and those that the rows carry from the dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Protocol

import msgspec

from specbatch.results.collect.columns import Column, Kind, free_name
from specbatch.results.rows import ResultRow
from specbatch.results.wire import decode_result

_PREFIX = "input_"
_OF_OPTIONS = ("reasoning", "tool_calls", "logprobs", "prompt_logprobs")
_OPTIONAL = {"rounds", "drafted", "accepted", "prompt", "answer", "correct"}
_OWN: Mapping[str, tuple[Kind, Callable[[ResultRow], Any]]] = {
    "id": ("string", attrgetter("id")),
    "index": ("int64", attrgetter("index")),
    "text": ("string", attrgetter("text")),
    "finish_reason": ("string", attrgetter("finish_reason")),
    "prompt_tokens": ("int64", attrgetter("usage.prompt_tokens")),
    "completion_tokens": ("int64", attrgetter("usage.completion_tokens")),
    "rounds": ("int64", lambda row: getattr(row.speculation, "rounds", None)),
    "drafted": ("int64", lambda row: getattr(row.speculation, "drafted", None)),
    "accepted": ("int64", lambda row: getattr(row.speculation, "accepted", None)),
    "prompt": ("string", attrgetter("prompt")),
    "answer": ("string", attrgetter("answer")),
    "correct": ("bool", attrgetter("correct")),
    "fingerprint": ("string", attrgetter("fingerprint")),
}


class Table(Protocol):
    """Writes rows of values into a file. OSErrors of the file pass through, and ValueErrors of values that are not of their column's type.

    Attributes:
        formulas: cells so far that a spreadsheet would run; of CSV alone.
    """

    formulas: int

    def write(self, values: Sequence[Any], size: int, /) -> None:
        """One row; `size` is about its number of bytes."""

    def close(self) -> None:
        """After the last row; the file stays open."""


class ResultTable:
    """Result rows in the columns of `result_columns`.

    | column | type | |
    |---|---|---|
    | id | string | |
    | index | int64 | position in the dataset, from 0 |
    | text | string | |
    | finish_reason | string | |
    | prompt_tokens, completion_tokens | int64 | |
    | rounds, drafted, accepted | int64 or null | the row's share of speculation, where the engine tells it |
    | prompt | string or null | where the run kept prompts; messages as JSON |
    | answer | string or null | the reference answer |
    | correct | bool or null | whether the text is the answer |
    | fingerprint | string | |
    | generated_reasoning, generated_tool_calls, generated_logprobs, generated_prompt_logprobs, generated_choices | text, JSON | where any row asked for them |
    | the columns of the dataset that the rows carry | by all their values | one with a name of the above is input_NAME |
    """

    def __init__(self, make_table: Callable[[Sequence[Column]], Table], carried: Mapping[str, Kind]) -> None:
        self._carried = tuple(carried)
        self._table = make_table(result_columns(carried))

    @property
    def formulas(self) -> int:
        """Cells so far that a spreadsheet would run."""
        return self._table.formulas

    def write(self, line: bytes) -> None:
        """One row; ValueError where the line is none."""
        row = decode_result(line)
        values = carried_of(row)
        cells = [read(row) for _, read in _OWN.values()] + [values.get(name) for name in self._carried]
        self._table.write(cells, len(line))

    def close(self) -> None:
        """After the last row; the file stays open."""
        self._table.close()


def result_columns(carried: Mapping[str, Kind]) -> list[Column]:
    """Those of our own, then those that the rows carry."""
    own = [Column(name, kind, nullable=name in _OPTIONAL) for name, (kind, _) in _OWN.items()]
    taken = {*_OWN, *carried}
    return own + [
        Column(free_name(f"{_PREFIX}{name}", taken, _PREFIX) if name in _OWN else name, kind)
        for name, kind in carried.items()
    ]


def carried_of(row: ResultRow) -> Mapping[str, Any]:
    """The columns of the dataset that a row carries, and what only some rows' options bring; as JSON where it is no text."""
    more = {f"generated_{name}": getattr(row, name) for name in _OF_OPTIONS}
    more["generated_choices"] = msgspec.to_builtins(row.choices)
    more = {name: value for name, value in more.items() if value is not None}
    return {**(row.columns or {}), **more} if more else row.columns or {}
