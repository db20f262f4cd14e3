"""Parses the fields of a row whose file knows nothing but strings (CSV): options are numbers, conversations are lists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from specbatch.runner.rows.row_options import find_option

_CONVERSATIONS = ("messages", "conversations", "conversation", "body")
_WORDS = {"True": True, "False": False, "TRUE": True, "FALSE": False}  # as pandas and Excel write them


def typed_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields, of which those that are never text are parsed where they are JSON; what is none is left for the form to refuse."""
    return {name: _typed(name, value) for name, value in fields.items()}


def _typed(name: str, value: Any) -> Any:
    if not value:
        return value
    option = None if name in _CONVERSATIONS else find_option(name)
    if name in _CONVERSATIONS or (option is not None and (option.sets == "stop" or option.holds)):
        is_parsed = value.lstrip().startswith(("[", "{"))
    else:
        is_parsed = option is not None and option.sets != "system_prompt"
    return _WORDS[value] if is_parsed and value in _WORDS else _parsed(value) if is_parsed else value


def _parsed(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return text
