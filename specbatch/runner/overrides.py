"""Per-row decoding fields: the spec's own names, snake_case, or OpenAI's, under the spec's own rules."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pydantic import ValidationError

from specbatch.api.decoding import DecodingSpec
from specbatch.results.rows import ErrorCode
from specbatch.runner.bad_rows import RowError, shown

_NAMES = {  # as written in a row -> attribute of DecodingSpec
    "maxNewTokens": "max_new_tokens",
    "max_new_tokens": "max_new_tokens",
    "max_tokens": "max_new_tokens",
    "max_completion_tokens": "max_new_tokens",
    "temperature": "temperature",
    "topP": "top_p",
    "top_p": "top_p",
    "topK": "top_k",
    "top_k": "top_k",
    "seed": "seed",
    "stop": "stop",
    "ignoreEos": "ignore_eos",
    "ignore_eos": "ignore_eos",
}
OVERRIDE_NAMES = frozenset(_NAMES)


def override_decoding(base: DecodingSpec, fields: Mapping[str, Any]) -> DecodingSpec:
    """The decoding of one row: `base` with the overrides among `fields`; a null means no override.

    Raises:
        RowError: a value that the spec would refuse too, or two names of one field that disagree.
    """
    given: dict[str, Any] = {}
    for name in fields.keys() & OVERRIDE_NAMES:
        value = fields[name]
        if value is None:
            continue
        attribute = _NAMES[name]
        if attribute == "stop" and isinstance(value, str):
            value = [value]
        if attribute in given and given[attribute] != value:
            raise RowError(ErrorCode.INVALID_FIELD, f"{name} and another name of it disagree")
        given[attribute] = value
    if not given:
        return base
    try:
        return DecodingSpec.model_validate({**base.model_dump(), **given})
    except ValidationError as error:
        raise RowError(ErrorCode.INVALID_FIELD, _sentence(error)) from None


def refuse_misspelled(fields: Mapping[str, Any], known: frozenset[str]) -> None:
    """Refuses a field whose name is almost an override's: it would be passed over in silence.

    Raises:
        RowError: unknown_field, naming the nearest.
    """
    for name in fields:
        if name not in known and name not in OVERRIDE_NAMES and (nearest := _nearest(name)):
            raise RowError(
                ErrorCode.UNKNOWN_FIELD,
                f"unknown field {shown(name)}; did you mean {nearest}? (rename it otherwise)",
            )


@lru_cache(maxsize=1024)  # a dataset has the same fields in every row
def _nearest(name: str) -> str | None:
    return next(iter(difflib.get_close_matches(name, OVERRIDE_NAMES, n=1, cutoff=0.85)), None)


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    path = ".".join(str(part) for part in first["loc"])
    return f"{path or 'decoding'}: {first['msg']}, found {shown(first['input'])}"
