"""Twenty JSON schemas of the kinds that people write: nested, enums, arrays, unicode, numbers, alternatives, references, patterns. No text of theirs is long."""

from __future__ import annotations

from typing import Any

_WORD = {"type": "string", "pattern": "^[a-z]{1,6}$"}
_FLAG = {"type": "boolean"}
_SMALL = {"type": "integer", "minimum": 0, "maximum": 99}


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    properties = required | (optional or {})
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    } | more


def _array(items: dict[str, Any], least: int, most: int) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


SCHEMAS: list[dict[str, Any]] = [
    _object({"word": _WORD}),
    _object({"color": {"enum": ["red", "green", "blue"]}, "size": {"enum": [1, 2, None, "XL"]}}),
    _object({"name": {"enum": ["Zoë", "José", "漢字", "naïve 🙂"]}, "größe": _SMALL}),
    _object({"text": {"type": "string", "maxLength": 12}}),
    _object({"n": {"type": "integer", "minimum": -50, "maximum": 50}, "flag": _FLAG}),
    _object({"x": {"type": "number", "minimum": 0, "maximum": 1}}),
    _array(_SMALL, 3, 3),
    _array({"enum": ["a", "b", "c"]}, 0, 4),
    _object({"rows": _array(_array(_FLAG, 2, 2), 1, 3)}),
    _object({"a": _object({"b": _object({"c": _object({"d": _SMALL})})})}),
    _object({"value": {"anyOf": [_SMALL, _FLAG, {"type": "null"}]}}),
    {"anyOf": [_object({"kind": {"const": "cat"}, "lives": _SMALL}), _object({"kind": {"const": "dog"}, "good": _FLAG})]},
    {"$defs": {"point": _object({"x": _SMALL, "y": _SMALL})}, **_object({"from": {"$ref": "#/$defs/point"}, "to": {"$ref": "#/$defs/point"}})},
    _object({"date": {"type": "string", "pattern": "^20[0-9]{2}-(0[1-9]|1[0-2])-[0-3][0-9]$"}}),
    _object({"id": {"type": "string", "pattern": "^[A-F0-9]{8}$"}, "tags": _array(_WORD, 1, 2)}),
    _object({"must": _FLAG}, {"may": _SMALL, "also": _WORD}),
    _object({"list": _array(_object({"k": _WORD, "v": _SMALL}), 1, 2)}),
    {"$defs": {"tree": _object({"n": {"type": "integer", "minimum": 0, "maximum": 9}}, {"next": {"anyOf": [{"type": "null"}, _object({"n": _SMALL})]}})}, "$ref": "#/$defs/tree"},
    _object({"quote": {"enum": ['say "hi"', "back\\slash", "tab\there", "line\nbreak"]}}),
    _object({"mixed": _array({"anyOf": [_WORD, _SMALL, _object({"deep": _array(_FLAG, 1, 1)})]}, 2, 3)}),
]  # fmt: skip
