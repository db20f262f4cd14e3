"""Plain data from files back into our types, checked: another version, or a hand, may have written them."""

from __future__ import annotations

import json
from typing import Any, TypeVar

import msgspec

_T = TypeVar("_T")


def load_json(data: bytes) -> Any:
    """A file's JSON; ValueError also for NaN and infinities, which no number of ours is."""
    return json.loads(data, parse_constant=_refuse)


def as_type(value: Any, kind: type[_T]) -> _T:
    """The value as a dataclass or Struct; fields that it does not know are skipped. ValueError where a type is not what it says."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise ValueError(f"not a {kind.__name__}: {error}") from error


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no number")
