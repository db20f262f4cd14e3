"""A request of ours as the arguments of vLLM's SamplingParams; what those cannot say is refused, never left out."""

from __future__ import annotations

import math
from dataclasses import MISSING, fields
from typing import Any

from specbatch.engine.logits.options import ALWAYS
from specbatch.engine.request import Request
from specbatch.runner.rows.grammars import WHITESPACE, RowGrammar

_MOST_BIASED, _MOST_BAD_WORDS, _MOST_ENDS = 1024, 128, 128  # of a row; more would end vLLM's engine, on GPUs
_OF_SAMPLING = ("temperature", "top_k", "top_p")  # that have vLLM's names
_OF_LOGITS = ("min_p", "repetition_penalty", "frequency_penalty", "presence_penalty")
_KNOWN = {
    *("id", "prompt_token_ids", "max_new_tokens", "sampling", "seed", "eos_token_ids", "stop", "logits", "grammar"),
    *("top_logprobs", "prompt_logprobs", "bias", "bad_words", *_OF_SAMPLING, *_OF_LOGITS),
}


def sampling_arguments(request: Request, *, drafts: bool = False, on_cpu: bool = False) -> dict[str, Any]:
    """Keyword arguments of SamplingParams for one row; "structured_outputs" are those of StructuredOutputsParams.

    Its seed is made of the row's seed and id, so that rows do not repeat each other's draws.

    Args:
        request: the row.
        drafts: whether vLLM drafts, and then takes no bias: tokens are banned as bad words, one by one.
        on_cpu: whether it is the build for CPUs, whose sampled rows come out wrong with drafts, and greedy ones beside them too.

    Raises:
        ValueError: the row asks for something that vLLM has not, by name.
    """
    sampling, logits, ends = request.sampling, request.logits, request.eos_token_ids
    for holder in (request, sampling, logits):
        _refuse_unknown(holder)
    if drafts and on_cpu and not sampling.greedy:
        raise ValueError(
            "vLLM's build for CPUs does not sample with drafts: set drafter to null, or the temperature to 0"
        )
    bias = {one.token: one.value for one in logits.bias if one.until == ALWAYS}
    banned = [token for token, value in bias.items() if value == -math.inf] if drafts else []
    bad_words = [*([token] for token in banned), *map(list, logits.bad_words)]
    passing = [one for one in logits.bias if one.until != ALWAYS]  # a ban of the tokens that end a row is min_tokens
    if passing and (len({one.until for one in passing}) > 1 or {one.token for one in passing} != ends):
        raise ValueError("tokens are banned for a while: begin_suppress_tokens, or min_tokens with ignore_eos")
    if len(bias) > _MOST_BIASED or len(bad_words) > _MOST_BAD_WORDS or len(ends) > _MOST_ENDS:
        raise ValueError(
            f"more than {_MOST_BIASED} tokens with a bias, {_MOST_BAD_WORDS} bad words or {_MOST_ENDS} tokens that end it"
        )
    return {
        **{name: getattr(sampling, name) for name in _OF_SAMPLING},
        **{name: getattr(logits, name) for name in _OF_LOGITS},
        "logit_bias": {token: value for token, value in bias.items() if token not in banned} or None,
        "_bad_words_token_ids": bad_words or None,  # what vLLM would make of bad_words, had it words
        "seed": None if sampling.greedy else request.random_key & 0x7FFF_FFFF_FFFF_FFFF,
        "max_tokens": request.max_new_tokens,
        "min_tokens": passing[0].until if passing else 0,
        "ignore_eos": True,  # the run's own end-of-sequence tokens are stop tokens
        "stop_token_ids": sorted(ends),
        "logprobs": request.top_logprobs,
        "prompt_logprobs": request.prompt_logprobs,
        "flat_logprobs": True,
        "structured_outputs": _structured(request.grammar) if isinstance(request.grammar, RowGrammar) else None,
        "detokenize": False,
    }


def _structured(grammar: RowGrammar) -> dict[str, Any]:
    """What the native engine compiles: vLLM's "guidance" is the same compiler."""
    asked = grammar.asked.model_dump(exclude_none=True)
    if "json_schema" in asked:
        return {"json": {"x-guidance": {"whitespace_pattern": WHITESPACE}, **asked["json_schema"]}}
    return asked


def _refuse_unknown(holder: Any) -> None:
    """What this was not taught to pass on, unless it asks for nothing."""
    for one in fields(holder):
        default = one.default_factory() if one.default_factory is not MISSING else one.default
        if one.name not in _KNOWN and getattr(holder, one.name) != default:
            raise ValueError(f"{one.name} is not supported with this engine")
