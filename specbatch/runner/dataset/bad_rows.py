"""The error of a row that cannot be decoded: a stable code and a sentence."""

from __future__ import annotations

from typing import Any

from specbatch.results.rows import ErrorCode

_EXACT_FLOATS = 1 << 53  # from here on a float may stand for several whole numbers


class RowError(Exception):
    """One row is bad. It never ends the job: the row becomes a line of the errors file.

    Args:
        code: the stable code, of results.rows.
        message: a sentence for people.
    """

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def shown(value: object, limit: int = 80) -> str:
    """A value as it may stand in a message: one line, shortened."""
    value = value[:limit] + "..." if isinstance(value, str) and len(value) > limit else value  # it may have megabytes
    text = ascii(value) if not isinstance(value, int) or value.bit_length() < 256 else "a very large number"
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def whole(value: Any) -> Any:
    """The whole number that a float stands for, as pandas writes those of a column with gaps (1.0); any other value as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT_FLOATS else value
