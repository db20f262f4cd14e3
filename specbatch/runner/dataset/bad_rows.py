"""The error of a row that cannot be decoded: a stable code and a sentence."""

from __future__ import annotations

from specbatch.results.rows import ErrorCode


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
