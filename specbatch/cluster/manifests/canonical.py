"""JSON as Go writes it: Helm renders the spec.json of the ConfigMap with the same bytes, so the Job's name has the same hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

# encoding/json escapes these, so that JSON may stand in HTML.
_ESCAPED = str.maketrans({char: f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"})
_INDENT = "  "
_SMALLEST, _LARGEST = 1e-6, 1e21  # floats between them are written without an exponent


def go_json(value: Any, *, pretty: bool = False) -> str:
    """The text of Go's json.Marshal, or of json.MarshalIndent by two spaces: keys sorted, whole numbers without a point.

    Source: https://pkg.go.dev/encoding/json#Marshal

    Args:
        value: dicts with text keys, lists, text, numbers, booleans and None.
        pretty: one member a line.
    """
    return "".join(_written(value, "\n" if pretty else ""))


def sha256_of(value: Any) -> str:
    """The sha256 (64 hex digits) of a value's compact JSON."""
    return hashlib.sha256(go_json(value).encode()).hexdigest()


def _written(value: Any, line: str) -> Iterator[str]:
    """`line` begins each member's line: a newline and the indent outside, or nothing at all."""
    if isinstance(value, Mapping):
        colon = ": " if line else ":"
        members = ([_text(name), colon, *_written(value[name], line and line + _INDENT)] for name in sorted(value))
        yield from _enclosed("{", members, "}", line)
    elif isinstance(value, (list, tuple)):
        yield from _enclosed("[", (_written(item, line and line + _INDENT) for item in value), "]", line)
    elif isinstance(value, str):
        yield _text(value)
    elif isinstance(value, float):
        yield _number(value)
    else:
        yield json.dumps(value)


def _enclosed(opening: str, members: Iterator[Any], closing: str, line: str) -> Iterator[str]:
    yield opening
    empty = True
    for member in members:
        yield ("" if empty else ",") + (line and line + _INDENT)
        yield from member
        empty = False
    yield closing if empty else line + closing


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).translate(_ESCAPED)


def _number(value: float) -> str:
    """The shortest digits that give the same float64, as Go sets them."""
    digits = repr(value)
    if value == 0 or _SMALLEST <= abs(value) < _LARGEST:
        plain = format(Decimal(digits), "f")
        return plain.rstrip("0").rstrip(".") if "." in plain else plain
    mantissa, _, exponent = format(Decimal(digits).normalize(), "e").partition("e")
    sign = "-" if exponent.startswith("-") else "+"
    return f"{mantissa}e{sign}{int(exponent.lstrip('+-')):d}" if sign == "-" else f"{mantissa}e+{int(exponent):02d}"
