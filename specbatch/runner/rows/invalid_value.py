"""Why a row's decoding is refused, by the names that the row has for its fields."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from specbatch.runner.dataset.bad_rows import shown

_TYPES_TRIED = frozenset({"constrained-str", "list[constrained-int]"})


def reason_of(error: ValidationError, written: Mapping[str, str]) -> str:
    """One sentence.

    Args:
        error: of DecodingSpec.
        written: field -> the row's name for it, where it has another.
    """
    # Of a union the type that fits best comes furthest.
    first = max(error.errors(include_url=False, include_context=False), key=lambda one: len(one["loc"]))
    place, found = first["loc"], first["input"]
    if place[-1:] == ("[key]",):  # of a mapping by token
        return f'{place[0]}: the key {shown(place[-2])} is no token id: a whole number in quotes, such as "31"'
    name, *inner = (str(part) for part in place) if place else ("decoding",)
    # Of a union pydantic names the type that it tried, too.
    path = ".".join([written.get(name, name), *(part for part in inner if part not in _TYPES_TRIED)])
    remedy = "; to score a prompt alone, ask for one token" if (name, found) == ("max_new_tokens", 0) else ""
    return f"{path}: {first['msg']}, found {shown(found)}{remedy}"
