"""Lines that are nearly JSON: read where it is plain what is meant, else explained."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

_WHITE = " \t\r\n"


def reread(text: str, decode: Callable[[str], Any]) -> Any:
    """The value of a line that a fast reader refused. A comma behind it is what is left of an array over many lines.

    Raises:
        ValueError: what is wrong, in words of the line rather than of the reader.
    """
    try:
        return decode(text)
    except json.JSONDecodeError as error:
        bare = text.rstrip(_WHITE)
        if bare.endswith(","):
            return decode(bare[:-1])
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
