"""A row's options about tokens, as the engine takes them: ids checked, words made into tokens."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from specbatch.api.decoding import DecodingSpec
from specbatch.engine.logits.options import (
    ALWAYS,
    LONGEST_BAD_WORD,
    MOST_BAD_WORDS,
    NO_OPTIONS,
    LogitsOptions,
    TokenBias,
)
from specbatch.results.rows import ErrorCode
from specbatch.runner.dataset.bad_rows import RowError, shown

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def logits_options(decoding: DecodingSpec, tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> LogitsOptions:
    """What a row asks of its logits; min_tokens is added where the target's end of text is known (`until_min_tokens`).

    Args:
        decoding: of the row.
        tokenizer: the target's.
        vocab_size: tokens that the target knows.

    Raises:
        RowError: a token that there is not, or words of too many tokens.
    """
    words = list(_words(decoding, tokenizer))
    named: dict[str, Iterable[int]] = {
        "logit_bias": map(int, decoding.logit_bias),
        "suppress_tokens": decoding.suppress_tokens,
        "begin_suppress_tokens": decoding.begin_suppress_tokens,
        "stop_token_ids": decoding.stop_token_ids,
        "bad_words": [token for word in words for token in word],
    }
    for name, tokens in named.items():
        for token in tokens:
            if token >= vocab_size:
                raise RowError(
                    ErrorCode.INVALID_FIELD, f"{name}: there is no token {token}: the target has {vocab_size}"
                )
    banned = (*decoding.suppress_tokens, *(word[0] for word in words if len(word) == 1))
    bias = {(int(token), ALWAYS): value for token, value in decoding.logit_bias.items()}
    bias |= dict.fromkeys(((token, ALWAYS) for token in banned), -math.inf)
    bias |= dict.fromkeys(((token, 1) for token in decoding.begin_suppress_tokens), -math.inf)
    found = LogitsOptions(
        bias=tuple(TokenBias(token, value, until) for (token, until), value in bias.items()),
        bad_words=tuple(word for word in words if len(word) > 1),
        repetition_penalty=decoding.repetition_penalty,
        frequency_penalty=decoding.frequency_penalty,
        presence_penalty=decoding.presence_penalty,
        no_repeat_ngram_size=decoding.no_repeat_ngram_size,
        min_p=decoding.min_p,
    )
    return found if found.processors else NO_OPTIONS


def _words(decoding: DecodingSpec, tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[int, ...]]:
    """The tokens of each bad word, once; of text as it begins a text, and after a space (vLLM leaves that out where it is another number of tokens)."""
    found: dict[tuple[int, ...], None] = {}
    for word in decoding.bad_words:
        if isinstance(word, list):
            found[tuple(word)] = None
            continue
        plain, spaced = (
            tuple(tokenizer.encode(space + word.lstrip(), add_special_tokens=False)) for space in ("", " ")
        )
        if not plain:
            raise RowError(ErrorCode.INVALID_FIELD, f"bad_words: {shown(word)} has no tokens")
        found |= {plain: None, spaced: None}
    for tokens in found:
        if len(tokens) > LONGEST_BAD_WORD:
            message = f"bad_words: a word of {len(tokens)} tokens; {LONGEST_BAD_WORD} are the most that can be banned"
            raise RowError(ErrorCode.INVALID_FIELD, message)
    if sum(len(tokens) > 1 for tokens in found) > MOST_BAD_WORDS:
        message = f"bad_words: more than {MOST_BAD_WORDS} words of several tokens, with and without a space before them"
        raise RowError(ErrorCode.INVALID_FIELD, message)
    yield from found


def until_min_tokens(options: LogitsOptions, ends: Iterable[int], min_tokens: int) -> LogitsOptions:
    """The options, and the ends of a text banned until it has so many tokens."""
    if not min_tokens:
        return options
    bans = tuple(TokenBias(token, -math.inf, min_tokens) for token in sorted(ends))
    return replace(options, bias=(*options.bias, *bans))
