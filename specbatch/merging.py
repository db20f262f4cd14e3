"""Records of counters made into one, field by field: the rule stands beside the field, and a field without one is summed.

So a counter that is added to a record is in every total of it, and cannot be forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import zip_longest
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

Record = TypeVar("Record")
Rule = Callable[[Sequence[Any], Sequence[Any]], Any]  # (the field's values, the records that they are of) -> one value


def summed(values: Sequence[Any], _records: Sequence[Any]) -> Any:
    """Numbers added up; of mappings key by key, of lists position by position. None where none is known."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    if isinstance(known[0], Mapping):
        copies = [dict(value) for value in known]  # in one step: another thread may be counting
        return {key: sum(copy.get(key, 0) for copy in copies) for copy in copies for key in copy}
    if isinstance(known[0], Sequence):
        return type(known[0])(sum(at) for at in zip_longest(*known, fillvalue=0))  # type: ignore[call-arg]  # list or tuple
    return sum(known[1:], start=known[0])


def summed_known(values: Sequence[Any], _records: Sequence[Any]) -> Any:
    """The sum of those that are not None; 0 where none is."""
    return sum(value for value in values if value is not None)


def summed_if_all_known(values: Sequence[Any], _records: Sequence[Any]) -> Any:
    """Their sum; None where one is."""
    return sum(values) if all(value is not None for value in values) else None


def largest(values: Sequence[Any], _records: Sequence[Any]) -> Any:
    """The largest."""
    return max(values)


def largest_if_all_known(values: Sequence[Any], _records: Sequence[Any]) -> Any:
    """The largest; None where one is."""
    return max(values) if all(value is not None for value in values) else None


def first(values: Sequence[Any], _records: Sequence[Any]) -> Any:
    """That of the first record."""
    return values[0]


def last(values: Sequence[Any], _records: Sequence[Any]) -> Any:
    """That of the last record."""
    return values[-1]


def last_known(values: Sequence[Any], _records: Sequence[Any]) -> Any:
    """The last that is not None."""
    return next((value for value in reversed(values) if value is not None), None)


def constant(value: Any) -> Rule:
    """For what several records together do not have."""
    return lambda _values, _records: value


@dataclass(frozen=True, slots=True)
class Merge:
    """How the values of a field become one. It stands in the field's type: `seconds: Annotated[float, Merge(at_once=largest)]`.

    Args:
        in_turn: for records that follow each other, such as the attempts at a shard.
        at_once: for records beside each other, such as replicas and shards.
    """

    in_turn: Rule = summed
    at_once: Rule = summed


@cache
def merge_rules(kind: type[Any]) -> Mapping[str, Merge]:
    """field -> its rules, of a dataclass or Struct."""
    hints = get_type_hints(kind, include_extras=True)
    return {name: _rules_in(hint) for name, hint in hints.items() if not name.startswith("__")}


def _rules_in(hint: Any) -> Merge:
    extras = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    return next((extra for extra in extras if isinstance(extra, Merge)), Merge())


def merge(records: Sequence[Record], *, at_once: bool) -> Record:
    """At least one record of a kind, as one."""
    kind: Any = type(records[0])
    merged: dict[str, Any] = {}
    for name, rules in merge_rules(kind).items():
        rule = rules.at_once if at_once else rules.in_turn
        merged[name] = rule([getattr(record, name) for record in records], records)
    made: Record = kind(**merged)
    return made
