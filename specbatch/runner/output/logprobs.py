"""Log probabilities of a completion in OpenAI's forms."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from specbatch.engine.request import TokenLogprobs
from specbatch.runner.models.tokenizer import Detokenizer

# What stands for "none at all", as in OpenAI's answers: JSON knows no infinity, nor NaN, which is not above it.
LEAST = -9999.0
_UNFINISHED = "\N{REPLACEMENT CHARACTER}"


def chat_logprobs(
    detokenizer: Detokenizer, tokens: Sequence[TokenLogprobs], first: int | None = None
) -> dict[str, Any]:
    """As in chat.completion: {"content": [{"token", "logprob", "bytes", "top_logprobs"}, ...], "refusal": null}.

    Args:
        detokenizer: of the target's tokenizer.
        tokens: to be shown.
        first: of a prompt, before them: it follows nothing, and its log probability is null.
    """
    content = [
        {
            **_token(detokenizer, one.token, one.logprob),
            "top_logprobs": [_token(detokenizer, *pair) for pair in one.top],
        }
        for one in tokens
    ]
    if first is not None:
        content.insert(0, {**_token(detokenizer, first, 0.0), "logprob": None, "top_logprobs": []})
    return {"content": content, "refusal": None}


def completion_logprobs(
    detokenizer: Detokenizer, tokens: Sequence[TokenLogprobs], first: int | None = None
) -> dict[str, Any]:
    """As in text_completion: {"tokens", "token_logprobs", "top_logprobs", "text_offset"}; see chat_logprobs."""
    before = [] if first is None else [first]
    texts = [detokenizer.token(token) for token in [*before, *(one.token for one in tokens)]]
    nothing = [None] * len(before)
    return {
        "tokens": texts,
        "token_logprobs": [*nothing, *(max(LEAST, one.logprob) for one in tokens)],
        "top_logprobs": [
            *nothing,
            *({detokenizer.token(token): max(LEAST, value) for token, value in one.top} for one in tokens),
        ],
        "text_offset": list(accumulate(map(len, texts), initial=0))[:-1],
    }


def _token(detokenizer: Detokenizer, token: int, logprob: float) -> dict[str, Any]:
    text = detokenizer.token(token)
    known = list(text.encode("utf-8", "surrogatepass")) if _UNFINISHED not in text else None  # a part of a character
    return {"token": text, "logprob": max(LEAST, logprob), "bytes": known}
