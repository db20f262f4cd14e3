"""decoding.fromModel: what a model's generation_config.json asks for, as fields of the spec's decoding."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from specbatch.api.decoding import DecodingSpec
from specbatch.errors import ModelError
from specbatch.formatting import one_line

# By transformers' names. Those of sampling count where do_sample is true, as in its generate().
_SAMPLING = {"temperature": "temperature", "top_p": "top_p", "top_k": "top_k", "min_p": "min_p"}
_PROCESSORS = {
    "repetition_penalty": "repetition_penalty",
    "no_repeat_ngram_size": "no_repeat_ngram_size",
    "bad_words_ids": "bad_words",
    "suppress_tokens": "suppress_tokens",
    "begin_suppress_tokens": "begin_suppress_tokens",
    "min_new_tokens": "min_tokens",
    "stop_strings": "stop",
    "sequence_bias": "logit_bias",
}
_SHOWN_CHARS = 60


def takes(name: str) -> bool:
    """Whether a field of generation_config.json can be taken."""
    return name in _SAMPLING or name in _PROCESSORS


def with_defaults_of_model(decoding: DecodingSpec, defaults: Mapping[str, Any], name: str) -> tuple[DecodingSpec, str]:
    """The decoding with what the model asks for, where the spec says nothing else; and what was taken, in words.

    Args:
        decoding: of the spec; as it is unless it has fromModel.
        defaults: fields of generation_config.json.
        name: of the model, for messages.

    Raises:
        ModelError: a value that no run can have.
    """
    if not decoding.from_model:
        return decoding, ""
    usual = DecodingSpec()
    found = {
        field: (source, value)
        for source, field, value in _asked(defaults)
        if getattr(decoding, field) == getattr(usual, field) and value != getattr(usual, field)
    }
    try:
        taken = DecodingSpec.model_validate(
            {**decoding.model_dump(), **{field: value for field, (_, value) in found.items()}}
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        source = found.get(str(first["loc"][0]), ("",))[0]
        raise ModelError(
            f"generation_config.json asks for {source} {_show(defaults.get(source))}: {first['msg']}",
            where=name,
            remedy="leave decoding.fromModel out, and set in spec.decoding what you want",
        ) from None
    return taken, ", ".join(f"{source} {_show(value)}" for source, value in found.values())


def _asked(defaults: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """(its name, the field here, the value)"""
    if defaults.get("do_sample") is True:
        asked = {"temperature": 1.0, **{name: value for name, value in defaults.items() if value is not None}}
        yield from ((name, field, asked[name]) for name, field in _SAMPLING.items() if name in asked)
    for name, field in _PROCESSORS.items():
        value = defaults.get(name)
        if value is None:
            continue
        if name == "sequence_bias":
            value = _single_tokens(value)
        elif name == "stop_strings" and isinstance(value, str):
            value = [value]
        yield name, field, value


def _single_tokens(value: Any) -> Any:
    """transformers' [[[token, ...], bias], ...] as logit_bias; what names several tokens at once is left as it is, to be refused."""
    pairs = value if isinstance(value, list) else []
    if all(
        isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], list) and len(pair[0]) == 1 for pair in pairs
    ):
        return {str(tokens[0]): bias for tokens, bias in pairs}
    return value


def _show(value: Any) -> str:
    return one_line(json.dumps(value), _SHOWN_CHARS)
