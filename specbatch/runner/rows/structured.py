"""Structured output by the names that OpenAI, vLLM, SGLang, TGI, llama.cpp and Ollama have for it, as one field of the decoding."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from specbatch.results.rows import ErrorCode
from specbatch.runner.dataset.bad_rows import RowError, shown

ANY_OBJECT = {"type": "object"}
_VLLM = {"json": "json_schema", "regex": "regex", "choice": "choice", "grammar": "grammar"}


def structured_output(option: str, value: Any, written: str) -> dict[str, Any] | None:
    """Fields of StructuredOutput, still to be validated; None where the value asks for plain text.

    Args:
        option: its name in the table.
        value: of the row.
        written: as it is called there, for messages.

    Raises:
        RowError: a form that is not known.
    """
    if value is None or value in ("", {}, []):
        return None
    if option == "response_format" or (option == "guided_grammar" and isinstance(value, dict)):  # TGI's has that name
        return _response_format(value, written)
    if option == "structured_outputs":
        return _of_vllm(value, written)
    if option in {"guided_json", "format"}:
        return {"json_schema": ANY_OBJECT if value == "json" else _schema(value, written)}
    return {option.removeprefix("guided_"): value}


def _response_format(value: Any, written: str) -> dict[str, Any] | None:
    """OpenAI's, of both its APIs, and TGI's: {"type": "json_schema", ...}."""
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "text":
        return None
    if kind in {"json_object", "json_schema", "json"}:
        inner = value.get("json_schema", value)
        schema = next(
            (inner[name] for name in ("schema", "value") if isinstance(inner, dict) and inner.get(name) is not None),
            None,
        )
        if schema is None and kind == "json_object":
            return {"json_schema": ANY_OBJECT}
        if schema is not None:
            return {"json_schema": _schema(schema, written)}
        raise RowError(ErrorCode.INVALID_FIELD, f"{written}: there is no schema in {shown(value)}")
    if kind == "regex" and (found := value.get("value", value.get("pattern"))) is not None:
        return {"regex": found}
    raise RowError(
        ErrorCode.UNSUPPORTED_OPTION,
        f"{written} may be of type text, json_object, json_schema or regex, found {shown(value)}",
    )


def _of_vllm(value: Any, written: str) -> dict[str, Any] | None:
    """{"json": schema}, {"regex": ...}, {"choice": [...]}, {"grammar": ...} or {"json_object": true}."""
    asked: Mapping[str, Any] = {
        name: part for name, part in (value.items() if isinstance(value, dict) else ()) if part not in (None, False)
    }
    if asked.get("json_object") is True and len(asked) == 1:
        return {"json_schema": ANY_OBJECT}
    unknown = [name for name in asked if name not in _VLLM]
    if unknown or not asked:
        known = ", ".join([*_VLLM, "json_object"])
        raise RowError(ErrorCode.UNSUPPORTED_OPTION, f"{written} may have one of {known}, found {shown(value)}")
    return {_VLLM[name]: _schema(part, written) if name == "json" else part for name, part in asked.items()}


def _schema(value: Any, written: str) -> Any:
    """A schema, which may be given as its JSON text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise RowError(ErrorCode.INVALID_FIELD, f"{written}: the schema is no JSON: {error}") from None
    if value is True:
        return {}
    if not isinstance(value, dict):
        raise RowError(ErrorCode.INVALID_FIELD, f"{written}: a schema must be an object, found {shown(value)}")
    return value
