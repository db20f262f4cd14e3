"""Log probabilities of a completion in OpenAI's forms."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from specbatch.engine.request import TokenLogprobs
from specbatch.runner.models.tokenizer import Detokenizer

_LEAST = -9999.0  # what stands for "none at all", as in OpenAI's answers: JSON knows no infinity
_UNFINISHED = "\N{REPLACEMENT CHARACTER}"


def chat_logprobs(detokenizer: Detokenizer, tokens: Sequence[TokenLogprobs]) -> dict[str, Any]:
    """As in chat.completion: {"content": [{"token", "logprob", "bytes", "top_logprobs"}, ...], "refusal": null}."""
    content = [
        {
            **_token(detokenizer, one.token, one.logprob),
            "top_logprobs": [_token(detokenizer, *pair) for pair in one.top],
        }
        for one in tokens
    ]
    return {"content": content, "refusal": None}


def completion_logprobs(detokenizer: Detokenizer, tokens: Sequence[TokenLogprobs]) -> dict[str, Any]:
    """As in text_completion: {"tokens", "token_logprobs", "top_logprobs", "text_offset"}."""
    texts = [detokenizer.token(one.token) for one in tokens]
    offsets = list(accumulate(map(len, texts), initial=0))[:-1]
    return {
        "tokens": texts,
        "token_logprobs": [max(one.logprob, _LEAST) for one in tokens],
        "top_logprobs": [{detokenizer.token(token): max(value, _LEAST) for token, value in one.top} for one in tokens],
        "text_offset": offsets,
    }


def _token(detokenizer: Detokenizer, token: int, logprob: float) -> dict[str, Any]:
    text = detokenizer.token(token)
    known = list(text.encode("utf-8", "surrogatepass")) if _UNFINISHED not in text else None  # a part of a character
    return {"token": text, "logprob": max(logprob, _LEAST), "bytes": known}
