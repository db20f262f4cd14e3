"""Parses the JSON object in a line. Near misses are read where their meaning is plain, and explained elsewhere."""

from __future__ import annotations

import gc
import json
import math
from typing import Any

import msgspec

from specbatch.results.rows import ErrorCode
from specbatch.runner.dataset.bad_rows import RowError, shown

_LONG_LINE = 1 << 20  # bytes


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"{shown(digits)} is out of range")
    return value


_decode = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse_constant).decode
_decode_fast = msgspec.json.Decoder().decode


def _decode_any(data: bytes) -> Any:
    """JSON by the fast reader; what that refuses, Python's reads again, and says where and why it is wrong."""
    # Python's search for garbage, over millions of new lists that are none, takes six times as long as their making.
    paused = len(data) > _LONG_LINE and gc.isenabled()
    if paused:
        gc.disable()
    try:
        return _decode_fast(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _reread(data.decode())
    finally:
        if paused:
            gc.enable()


def parse_object(data: bytes) -> dict[str, Any]:
    """The JSON object in a line.

    Raises:
        RowError: not UTF-8, not JSON (NaN and Infinity are none), half of a surrogate pair, or not an object.
    """
    try:
        value = _decode_any(data)
        if b"\\ud" in data or b"\\uD" in data:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise RowError(ErrorCode.INVALID_ENCODING, f"byte {error.start + 1} is not UTF-8") from None
    except UnicodeEncodeError:
        raise RowError(ErrorCode.INVALID_ENCODING, "a string holds half of a surrogate pair") from None
    except RecursionError:
        raise RowError(ErrorCode.INVALID_JSON, "nested too deeply") from None
    except ValueError as error:
        raise RowError(ErrorCode.INVALID_JSON, f"{error}") from None
    if not isinstance(value, dict):
        raise RowError(ErrorCode.INVALID_ROW, f"a row must be a JSON object, found {shown(value)}")
    return value


def _reread(text: str) -> Any:
    """The value of a line that the fast reader refused. A comma behind it is what is left of an array over many lines.

    Raises:
        ValueError: what is wrong, in words of the line rather than of the reader.
    """
    try:
        return _decode(text)
    except json.JSONDecodeError as error:
        bare = text.rstrip(" \t\r\n")
        if bare.endswith(","):
            return _decode(bare[:-1])
        if "\0" in text:
            raise ValueError("zero bytes: the file was not written to its end, or is no text") from error
        rest = text[error.pos :]
        if error.msg == "Extra data" and rest.startswith(("{", "\r")):
            raise ValueError(
                f"more than one JSON value on the line (the next begins at column {error.colno})"
            ) from error
        if text.lstrip().startswith(("{'", "//", "#")):
            raise ValueError(f"{error}: single quotes and comments are not JSON") from error
        raise
