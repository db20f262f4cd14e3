"""Rows to lines of JSON and back.

A line is valid UTF-8 whatever the text holds: a lone surrogate, which UTF-8 cannot carry, stays a JSON escape.
"""

from __future__ import annotations

import json
import re
from typing import Any

from specbatch.results import openai_batch
from specbatch.results.rows import ErrorCode, ErrorRow, ResultRow, Speculation, Usage

_SURROGATE = re.compile("[\ud800-\udfff]")
_dumps = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(", ", ": "), check_circular=False).encode


def encode_json(value: Any) -> bytes:
    """JSON as UTF-8 on one line, without a newline."""
    text = _dumps(value)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text).encode()


def encode_result(row: ResultRow) -> bytes:
    """The row's line, with its newline."""
    value = openai_batch.result_to_json(row) if row.openai else _result_to_json(row)
    return encode_json(value) + b"\n"


def encode_error(row: ErrorRow) -> bytes:
    """The row's line, with its newline."""
    value = openai_batch.error_to_json(row) if row.openai else _error_to_json(row)
    return encode_json(value) + b"\n"


def decode_result(line: bytes) -> ResultRow:
    """The row of a line; ValueError where the line is none."""
    value = decode_object(line)
    try:
        return openai_batch.result_from_json(value) if "custom_id" in value else _result_from_json(value)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"not a result row: {error!r}") from error


def decode_error(line: bytes) -> ErrorRow:
    """The row of a line; ValueError where the line is none."""
    value = decode_object(line)
    try:
        return openai_batch.error_from_json(value) if "custom_id" in value else _error_from_json(value)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"not an error row: {error!r}") from error


def decode_object(line: bytes) -> dict[str, Any]:
    """The JSON object of a line; ValueError where the line is none."""
    try:
        value = json.loads(line)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004  # one kind of error for every kind of broken line
    return value


def _result_to_json(row: ResultRow) -> dict[str, Any]:
    value: dict[str, Any] = {
        "id": row.id,
        "index": row.index,
        "text": row.text,
        "finish_reason": row.finish_reason,
        "usage": {"prompt_tokens": row.usage.prompt_tokens, "completion_tokens": row.usage.completion_tokens},
        "speculation": {
            "rounds": row.speculation.rounds,
            "drafted": row.speculation.drafted,
            "accepted": row.speculation.accepted,
        },
    }
    optional = {"prompt": row.prompt, "answer": row.answer, "correct": row.correct}
    value |= {name: part for name, part in optional.items() if part is not None}
    return value | {"fingerprint": row.fingerprint}


def _result_from_json(value: dict[str, Any]) -> ResultRow:
    return ResultRow(
        id=string(value["id"]),
        index=int(value["index"]),
        fingerprint=string(value["fingerprint"]),
        text=string(value["text"]),
        finish_reason=string(value["finish_reason"]),
        usage=Usage(**value["usage"]),
        speculation=Speculation(**value["speculation"]),
        prompt=value.get("prompt"),
        answer=value.get("answer"),
        correct=value.get("correct"),
    )


def _error_to_json(row: ErrorRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "index": row.index,
        "line": row.line,
        "code": row.code.value,
        "message": row.message,
        "fingerprint": row.fingerprint,
    }


def _error_from_json(value: dict[str, Any]) -> ErrorRow:
    return ErrorRow(
        id=string(value["id"]),
        index=int(value["index"]),
        fingerprint=string(value["fingerprint"]),
        code=ErrorCode(value["code"]),
        message=string(value["message"]),
        line=value.get("line"),
    )


def string(value: Any) -> str:
    """The value, which must be a string."""
    if not isinstance(value, str):
        raise TypeError(f"expected a string, found {type(value).__name__}")
    return value
