"""The decoding of a row, or why it is refused, by the names that the row has for its fields."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from specbatch.api.decoding import DecodingSpec
from specbatch.results.rows import ErrorCode
from specbatch.runner.dataset.bad_rows import RowError, shown
from specbatch.runner.rows.options import Options

_FEWER = {"logit_bias": "give fewer; tokens that are to be banned may go to suppress_tokens"}
_TYPES_TRIED = frozenset({"constrained-str", "list[constrained-int]"})


def decoding_of_row(base: DecodingSpec, options: Options) -> DecodingSpec:
    """The decoding of a row: the spec's, with what the row sets, under the spec's own rules.

    Raises:
        RowError: a value that the spec would refuse too, or a demand to sample at temperature 0.
    """
    decoding = base
    if options.decoding:
        try:
            decoding = DecodingSpec.model_validate({**base.model_dump(), **options.decoding})
        except ValidationError as error:
            raise RowError(ErrorCode.INVALID_FIELD, _reason(error, options.written)) from None
    if decoding.min_tokens > decoding.max_new_tokens:
        message = f"min_tokens {decoding.min_tokens} is more than max_tokens, which is {decoding.max_new_tokens}"
        raise RowError(ErrorCode.INVALID_FIELD, message)
    if decoding.structured_output is not None and (decoding.ignore_eos or decoding.min_tokens):
        other = "ignore_eos" if decoding.ignore_eos else "min_tokens"
        message = f"{other} beside structured output: the form says where a text ends; give one of them"
        raise RowError(ErrorCode.INVALID_FIELD, message)
    if decoding.n > 1 and decoding.temperature == 0:
        message = f"n {decoding.n} gives the same text {decoding.n} times at temperature 0, which is greedy; give a temperature above 0"
        raise RowError(ErrorCode.INVALID_FIELD, message)
    if options.must_sample and decoding.temperature == 0:
        raise RowError(
            ErrorCode.UNSUPPORTED_OPTION,
            f"{options.must_sample}: true is not supported at temperature 0, which is greedy; give a temperature above 0",
        )
    return decoding


def _reason(error: ValidationError, written: Mapping[str, str]) -> str:
    """One sentence.

    Args:
        error: of DecodingSpec.
        written: field -> the row's name for it, where it has another.
    """
    # Of a union the type that fits best comes furthest.
    first = max(error.errors(include_url=False), key=lambda one: len(one["loc"]))
    place, found = first["loc"], first["input"]
    if place[-1:] == ("[key]",):  # of a mapping by token
        return f'{place[0]}: the key {shown(place[-2])} is no token id: a whole number in quotes, such as "31"'
    name, *inner = (str(part) for part in place) if place else ("decoding",)
    # Of a union pydantic names the type that it tried, too.
    path = ".".join([written.get(name, name), *(part for part in inner if part not in _TYPES_TRIED)])
    if first["type"] == "too_long":
        most = first["ctx"]["max_length"]
        return f"{path}: {len(found)} items, and {most} are the most that it may have; {_FEWER.get(name, 'give fewer')}"
    remedy = "; to score a prompt alone, ask for one token" if (name, found) == ("max_new_tokens", 0) else ""
    return f"{path}: {first['msg']}, found {shown(found)}{remedy}"
