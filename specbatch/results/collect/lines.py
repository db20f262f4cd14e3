"""What collect needs of a row's line, found without reading the whole line where it looks as we write it."""

from __future__ import annotations

import re

from specbatch.results.wire import decode_object

# As `wire` and `openai_batch` write them. An unescaped quote after a space opens a key or a string: there is none within one.
_PLAIN = re.compile(rb'\{"id": "[^"\\]*(?:\\.[^"\\]*)*", "index": (\d{1,18}), "').match
_OPENAI = re.compile(rb'\{"id": "batch_req_[^"\\]*", "custom_id": "').match
_OPENAI_INDEX = re.compile(rb', "specbatch": \{"index": (\d{1,18}), "').search


def index_of(line: bytes) -> int:
    """The row's index; ValueError where the line is no row."""
    found = _PLAIN(line)
    if not found and _OPENAI(line):
        found = _OPENAI_INDEX(line)  # the first one: before it only strings come from the user
    return int(found[1]) if found else _index_within(line)


def is_openai(line: bytes) -> bool:
    """Whether a row certainly has the OpenAI batch output form; False leaves it open."""
    return _OPENAI(line) is not None


def key_of(line: bytes) -> tuple[str, str]:
    """The id and the fingerprint by which a row is known; ValueError where the line is no row."""
    value = decode_object(line)
    try:
        if "custom_id" in value:
            return str(value["custom_id"]), str(value["specbatch"]["fingerprint"])
        return str(value["id"]), str(value["fingerprint"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a row: {error!r}") from error


def error_code(line: bytes) -> str:
    """The code of an error row; ValueError where the line is none."""
    value = decode_object(line)
    try:
        return str(value["error"]["code"] if "custom_id" in value else value["code"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"not an error row: {error!r}") from error


def _index_within(line: bytes) -> int:
    value = decode_object(line)
    try:
        index = value["specbatch"]["index"] if "custom_id" in value else value["index"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a row: {error!r}") from error
    if isinstance(index, bool) or not isinstance(index, int):
        raise ValueError("not a row: its index is no whole number")  # noqa: TRY004 - one kind of error for every broken line
    return index
