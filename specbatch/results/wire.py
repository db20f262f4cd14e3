"""Rows to lines of JSON and back.

A line is valid UTF-8 whatever the text holds: a lone surrogate, which UTF-8 cannot carry, stays a JSON escape.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from specbatch.results import openai_batch
from specbatch.results.rows import ErrorRow, ResultRow

Row = TypeVar("Row", ResultRow, ErrorRow)

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
    if row.openai:
        return encode_json(openai_batch.result_to_json(row)) + b"\n"
    return encode_json({name: part for name, part in msgspec.to_builtins(row).items() if part is not None}) + b"\n"


def encode_error(row: ErrorRow) -> bytes:
    """The row's line, with its newline."""
    if row.openai:
        return encode_json(openai_batch.error_to_json(row)) + b"\n"
    value = msgspec.to_builtins(row)
    del value["openai"]
    if row.columns is None:
        del value["columns"]
    return encode_json(value) + b"\n"


def decode_result(line: bytes) -> ResultRow:
    """The row of a line; ValueError where the line is none."""
    return _decode(line, ResultRow, openai_batch.result_from_json)


def decode_error(line: bytes) -> ErrorRow:
    """The row of a line; ValueError where the line is none."""
    return _decode(line, ErrorRow, openai_batch.error_from_json)


def decode_object(line: bytes) -> dict[str, Any]:
    """The JSON object of a line; ValueError where the line is none."""
    try:
        value = json.loads(line)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004  # one kind of error for every kind of broken line
    return value


def _decode(line: bytes, kind: type[Row], from_openai: Callable[[dict[str, Any]], Row]) -> Row:
    try:
        return msgspec.json.decode(line, type=kind)  # eight times faster than json
    except msgspec.MsgspecError:  # the OpenAI form, half of a surrogate pair, or no row at all
        value = decode_object(line)
    try:
        return from_openai(value) if "custom_id" in value else msgspec.convert(value, kind)
    except (msgspec.ValidationError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"not {'a result' if kind is ResultRow else 'an error'} row: {error!r}") from error
