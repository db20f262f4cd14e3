"""Plain data from files back into our types, checked: another version, or a hand, may have written them."""

from __future__ import annotations

import json
from typing import Any, TypeVar

import msgspec

_T = TypeVar("_T")

_TOO_DEEP = "it is nested too deep"
_DEEPEST = 64
_LARGEST = 10**30  # beyond what 64 bits hold, but no error where it is divided


def load_json(data: bytes) -> Any:
    """A state file's JSON: finite numbers within bounds, no deep nesting. ValueError for anything else."""
    try:
        value = json.loads(data, parse_constant=_refuse)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    _check(value, _DEEPEST)
    return value


def _check(value: Any, depth: int) -> None:
    """What JSON can say and no code of ours expects."""
    if isinstance(value, (dict, list)):
        if not depth:
            raise ValueError(_TOO_DEEP)
        for part in value.values() if isinstance(value, dict) else value:
            _check(part, depth - 1)
    elif isinstance(value, (int, float)) and not -_LARGEST <= value <= _LARGEST:  # not true of infinity, too
        raise ValueError("a number in it is out of all bounds")


def as_type(value: Any, kind: type[_T]) -> _T:
    """The value as a dataclass or Struct; fields that it does not know are skipped. ValueError where a type is not what it says."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise ValueError(f"not a {kind.__name__}: {error}") from error


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no number")
