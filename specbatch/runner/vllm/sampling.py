"""A request of ours as the arguments of vLLM's SamplingParams; what those cannot say is refused, never left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, fields
from typing import Any

from specbatch.api.decoding import DecodingSpec
from specbatch.engine.logits.options import ALWAYS, LogitsOptions
from specbatch.engine.request import Request
from specbatch.errors import Problem

_NOT_HERE = (
    *("bad_words", "suppress_tokens", "begin_suppress_tokens", "no_repeat_ngram_size"),
    *("structured_output", "top_logprobs"),
)
_LARGEST_BIAS = 100  # vLLM cuts off what is beyond
_KNOWN = {
    "id", "prompt_token_ids", "max_new_tokens", "sampling", "seed", "eos_token_ids", "stop", "logits",
    "temperature", "top_k", "top_p",
    "bias", "repetition_penalty", "frequency_penalty", "presence_penalty", "min_p",
}  # fmt: skip


def sampling_arguments(request: Request) -> dict[str, Any]:
    """Keyword arguments of SamplingParams for one row.

    Its seed is made of the row's seed and id, so that rows do not repeat each other's draws.

    Raises:
        ValueError: the row asks for something that vLLM has not, by name.
    """
    sampling, logits = request.sampling, request.logits
    for holder in (request, sampling, logits):
        _refuse_unknown(holder)
    bias, min_tokens = _bias(logits, request.eos_token_ids)
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": logits.min_p,
        "repetition_penalty": logits.repetition_penalty,
        "frequency_penalty": logits.frequency_penalty,
        "presence_penalty": logits.presence_penalty,
        "logit_bias": bias or None,
        "seed": None if sampling.greedy else request.random_key & 0x7FFF_FFFF_FFFF_FFFF,
        "max_tokens": request.max_new_tokens,
        "min_tokens": min_tokens,
        "ignore_eos": True,  # the run's own end-of-sequence tokens are stop tokens
        "stop_token_ids": sorted(request.eos_token_ids),
        "detokenize": False,
    }


def not_of_vllm(decoding: DecodingSpec) -> Iterator[Problem]:
    """What the spec asks of every row and no row can have."""
    for name in _NOT_HERE:
        if getattr(decoding, name) != DecodingSpec.model_fields[name].get_default(call_default_factory=True):
            alias = DecodingSpec.model_fields[name].alias
            yield Problem(
                f"spec.decoding.{alias}", "is not passed on to vLLM", "leave it out, or set engine.name to native"
            )


def _bias(logits: LogitsOptions, ends: frozenset[int]) -> tuple[dict[int, float], int]:
    """The bias by token, and min_tokens: a ban of the tokens that end a row, for a while."""
    for_ever = {one.token: one.value for one in logits.bias if one.until == ALWAYS}
    if any(abs(value) > _LARGEST_BIAS for value in for_ever.values()):
        raise ValueError("tokens are banned, or biased by more than 100")
    passing = [one for one in logits.bias if one.until != ALWAYS]
    lengths = {one.until for one in passing}
    if passing and (len(lengths) > 1 or {one.token for one in passing} - ends):
        raise ValueError("tokens are banned for a while")
    return for_ever, lengths.pop() if lengths else 0


def _refuse_unknown(holder: Any) -> None:
    """What this was not taught to pass on, unless it asks for nothing."""
    for one in fields(holder):
        default = one.default_factory() if one.default_factory is not MISSING else one.default
        if one.name not in _KNOWN and getattr(holder, one.name) != default:
            raise ValueError(f"{one.name} is not supported with this engine")
