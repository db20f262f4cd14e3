"""values.schema.json of the Helm chart: the schema of a SpecBatchJob, beside the chart's own values.

Draft 7, which every Helm 3 and 4 reads. It differs from the editors' schema where Helm differs from specbatch's own parser: numbers are
64-bit floats, so integers that would be rounded are refused; strings with control characters, which Helm drops silently, are refused; `y: 1` has the key
"true" (YAML 1.1), so that key is refused in free mappings; null means that the field is left out.
"""

from __future__ import annotations

from typing import Any

from specbatch.api.quantity import PATTERN
from specbatch.api.schema import json_schema
from specbatch.cluster.manifests.bundled_files import NOT_IN_YAML
from tools.helm_extras import EXTRAS

_LARGEST = 2**53 - 1  # whole numbers beyond it are rounded by Helm
_SMALLEST = 1e-6  # and those below are written with an exponent
_NOT_A_KEY = {"not": {"enum": ["true", "false"]}}
_NOT_A_TEXT = {"type": "string", "pattern": NOT_IN_YAML.pattern}
_FREE = {"$ref": "#/definitions/anything"}
_QUANTITY = {
    "type": ["string", "number"],
    "pattern": PATTERN,
    "maxLength": 64,
    "minimum": 0,
    "maximum": _LARGEST,
    "not": {"exclusiveMinimum": 0, "exclusiveMaximum": _SMALLEST, "type": "number"},
}


def values_schema() -> dict[str, Any]:
    """The schema of the chart's values."""
    schema = json_schema()
    spec = _draft7({"properties": schema["properties"], "required": schema["required"], "type": "object"})
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart specbatch: a SpecBatchJob file, and what the chart makes besides",
        "type": "object",
        "additionalProperties": False,
        "properties": {**spec["properties"], **EXTRAS, "global": {"type": "object", "description": "Helm's own."}},
        "dependencies": {"spec": ["apiVersion", "kind", "metadata"], "metadata": ["spec"]},
        "definitions": {
            **{name: _draft7(part) for name, part in schema["$defs"].items()},
            "anything": {
                "description": "Free-form, as Kubernetes has it.",
                "not": _NOT_A_TEXT,
                "minimum": -_LARGEST,
                "maximum": _LARGEST,
                "additionalProperties": _FREE,
                "propertyNames": _NOT_A_KEY,
                "items": _FREE,
            },
        },
    }


def _draft7(part: Any) -> Any:
    """A part of the schema for Helm."""
    if isinstance(part, list):
        return [_draft7(one) for one in part]
    if not isinstance(part, dict):
        return part
    if [one.get("type") for one in part.get("anyOf", ())] == ["string", "number"]:
        return {**_said(part), **_QUANTITY}
    if "$ref" in part:
        name = part["$ref"].rpartition("/")[2]
        return {**_said(part), "type": "object", "allOf": [{"$ref": f"#/definitions/{name}"}]}
    inner = {
        name: {key: _draft7(one) for key, one in value.items()} if name == "properties" else _draft7(value)
        for name, value in part.items()
        if name not in {"examples", "default"}
    }
    if "default" in part:
        inner["default"] = part["default"]
    return _merged_anyof(_printable(_bounded(_closed(_nullable(inner)))))


def _said(part: dict[str, Any]) -> dict[str, Any]:
    return {name: part[name] for name in ("description", "default") if name in part}


def _nullable(part: dict[str, Any]) -> dict[str, Any]:
    """The fields that may be left out may be null."""
    required = part.get("required", ())
    fields = part.get("properties", {})
    return part | (
        {"properties": {name: one if name in required else _or_null(one) for name, one in fields.items()}}
        if fields
        else {}
    )


def _or_null(part: dict[str, Any]) -> dict[str, Any]:
    if "anyOf" in part:
        has_null = {"type": "null"} in part["anyOf"]
        return part if has_null else {**part, "anyOf": [*part["anyOf"], {"type": "null"}]}
    kinds = part["type"] if isinstance(part["type"], list) else [part["type"]]
    changed = {**part, "type": [*kinds, *([] if "null" in kinds else ["null"])]}
    if "enum" in part and None not in part["enum"]:
        changed["enum"] = [*part["enum"], None]
    if "allOf" in part:  # a section: what it refers to knows no null
        changed = {**_said(part), "anyOf": [*part["allOf"], {"type": "null"}]}
    return changed


def _merged_anyof(part: dict[str, Any]) -> dict[str, Any]:
    """`anyOf: [X, null]` as one, for clearer messages: {"type": ["string", "null"], ...}."""
    others = [one for one in part.get("anyOf", ()) if one != {"type": "null"}]
    if len(others) != 1 or len(part["anyOf"]) != 2 or "allOf" in others[0] or "$ref" in others[0]:
        return part
    rest = {name: value for name, value in part.items() if name != "anyOf"}
    return {**rest, **_or_null(others[0])}


def _closed(part: dict[str, Any]) -> dict[str, Any]:
    """Mappings with free keys."""
    if "patternProperties" in part:
        names = {**part.get("propertyNames", {}), **_NOT_A_KEY}
        return {**part, "additionalProperties": False, "propertyNames": names}
    if part.get("additionalProperties") is True:
        return {**part, "additionalProperties": _FREE, "propertyNames": _NOT_A_KEY}
    return part


def _printable(part: dict[str, Any]) -> dict[str, Any]:
    """Helm drops strings with characters that YAML cannot hold."""
    return {**part, "not": _NOT_A_TEXT} if part.get("type") == "string" and "enum" not in part else part


def _bounded(part: dict[str, Any]) -> dict[str, Any]:
    if part.get("type") != "integer":
        return part
    low, high = part.get("minimum", -_LARGEST), part.get("maximum", _LARGEST)
    return {**part, "minimum": max(low, -_LARGEST), "maximum": min(high, _LARGEST)}
