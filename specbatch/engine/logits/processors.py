"""From a row's options to its logits: bans, biases, penalties, min-p; both engines and both models go through `process`.

The order is vLLM's: what a grammar allows, bad words, min_tokens and logit_bias, the repetition, frequency and presence penalties, then at the row's temperature
min-p, and after that (`sampling`) top-k and top-p. transformers' has the same up to the penalties, and min-p last. All of it follows from the
row's tokens before a position, drafts of the round among them, so that drafting and verifying a token see the same, whatever k.

Straight-line code over static shapes, which a graph can capture. What the processors read are a row's own tokens: no pass over the
vocabulary but the copy in float32, and those of the frequency penalty's counts and of min-p.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import NamedTuple

import torch
from torch import Tensor

from specbatch.engine.logits.grammar import forbid
from specbatch.engine.logits.options import LARGEST_NGRAM, Processor
from specbatch.engine.logits.row_options import RowOptions
from specbatch.engine.request import Request


def needed(requests: Sequence[Request]) -> Processor:
    """What any of the rows needs."""
    return reduce(or_, (request.processors for request in requests), Processor.NONE)


def process(
    logits: Tensor,
    options: RowOptions,
    processors: Processor,
    history: Tensor,
    positions: Tensor,
    prompt_lengths: Tensor,
    temperature: Tensor,
    mask: Tensor | None = None,
) -> Tensor:
    """The logits that tokens are chosen from.

    Args:
        logits: of the model, which are left as they are  # [batch, n, vocab]
        options: of the rows.
        processors: that are run.
        history: the rows' tokens by position, drafts behind them  # int64 [batch, length]
        positions: of the tokens to be chosen, in their rows: at least 1  # int64 [batch, n]
        prompt_lengths: int64 [batch]
        temperature: of the rows, 0 for greedy  # float32 [batch]
        mask: of what the rows' grammars allow, for Processor.GRAMMAR  # int32 [batch, n, words]

    Returns:
        float32 [batch, n, vocab]; -inf where a token is banned
    """
    scores = logits.to(torch.float32, copy=True)
    at = _Places(history, positions, prompt_lengths)
    if processors & Processor.GRAMMAR:
        assert mask is not None, "of the rows with a grammar"
        forbid(scores, mask)
    if processors & Processor.BAD_WORDS:
        _ban_words(scores, options, at)
    if processors & Processor.NGRAMS:
        _ban_ngrams(scores, options, at)
    if processors & Processor.BIAS:
        _add_bias(scores, options, at)
    if processors & (Processor.REPETITION | Processor.FREQUENCY):
        _penalise(scores, options, at, counts=bool(processors & Processor.FREQUENCY))
    if processors & Processor.MIN_P:
        scores = _min_p(scores, options, temperature)
    return scores


def process_slots(
    logits: Tensor,
    options: RowOptions,
    processors: Processor,
    history: Tensor,
    slots: Tensor,
    positions: Tensor,
    prompt_lengths: Tensor,
    temperature: Tensor,
    mask: Tensor | None,
) -> Tensor:
    """As `process`, of rows whose lines in options, history, prompt_lengths and temperature their slots say.  # int64 [batch]"""
    asked = options.lines(slots), processors, history[slots], positions
    return process(logits, *asked, prompt_lengths[slots], temperature[slots], mask)


class _Places(NamedTuple):
    """The tokens that stand before each position; see `process`."""

    history: Tensor
    positions: Tensor
    prompt_lengths: Tensor

    def before(self) -> Tensor:
        """bool [batch, n, length]"""
        return torch.arange(self.history.shape[1], device=self.history.device) < self.positions[..., None]

    def of_completion(self) -> Tensor:
        """bool [batch, 1, length]"""
        each = torch.arange(self.history.shape[1], device=self.history.device)
        return (each >= self.prompt_lengths[:, None])[:, None]


def _ban_words(scores: Tensor, options: RowOptions, at: _Places) -> None:
    """The last token of a word whose others end the completion."""
    words, longest = options.bad_words[:, None], options.bad_words.shape[-1]
    back = torch.arange(longest - 1, 0, -1, device=words.device)
    places = at.positions[..., None] - back  # [batch, n, longest - 1]
    rows = torch.arange(len(places), device=words.device)[:, None, None]
    tokens = at.history[rows, places.clamp(min=0)].masked_fill(places < at.prompt_lengths[:, None, None], -2)
    alike = (words[..., :-1] == tokens[:, :, None]) | (words[..., :-1] == -1)
    last = words[..., -1]
    _ban(scores, last.clamp(min=0), alike.all(-1) & (last >= 0))


def _ban_ngrams(scores: Tensor, options: RowOptions, at: _Places) -> None:
    """Every token that followed an earlier occurrence of the last n - 1 tokens."""
    history, size = at.history[:, None], options.ngram[:, None, None]
    ends = torch.arange(history.shape[-1], device=history.device)  # of an earlier occurrence
    running = at.before().roll(-1, -1) & (ends < history.shape[-1] - 1)  # what followed stands before the position
    matched = torch.zeros_like(running, dtype=torch.int64)
    rows = torch.arange(len(history), device=history.device)[:, None]
    for back in range(LARGEST_NGRAM - 1):
        query = at.history[rows, (at.positions - 1 - back).clamp(min=0)][..., None]
        running = running & (ends >= back) & (history.roll(back, -1) == query)
        matched += running
    follows = at.before().roll(-1, -1) & (ends < history.shape[-1] - 1)
    first = at.before()[..., :1] & (size == 1)  # of single tokens the first one follows nothing
    _ban(scores, history[..., :1].expand_as(first), first)
    _ban(scores, history.roll(-1, -1).expand_as(follows), follows & (size > 0) & (matched >= size - 1))


def _ban(scores: Tensor, tokens: Tensor, banned: Tensor) -> None:
    """Tokens [batch, n or 1, m] where banned [batch, n, m]."""
    values = torch.zeros_like(banned, dtype=torch.float32).masked_fill_(banned, -torch.inf)
    scores.scatter_add_(-1, tokens.expand_as(banned), values)


def _add_bias(scores: Tensor, options: RowOptions, at: _Places) -> None:
    taken = at.positions - at.prompt_lengths[:, None]  # tokens of the completion before each position
    holds = taken[..., None] < options.bias_until[:, None]
    values = torch.where(holds, options.bias_values[:, None], 0.0)
    scores.scatter_add_(-1, options.bias_tokens[:, None].expand_as(holds), values)


def _penalise(scores: Tensor, options: RowOptions, at: _Places, *, counts: bool) -> None:
    repetition, frequency, presence = (options.reals[:, i, None, None] for i in range(3))
    before = at.before()
    # What does not count yet points to the row's first token, which always does: entries of one token all write the same.
    tokens = torch.where(before, at.history[:, None], at.history[:, None, :1])
    values = scores.gather(-1, tokens)
    values = torch.where(values > 0, values / repetition, values * repetition)
    if counts:
        generated = (before & at.of_completion()).float()
        times = torch.zeros_like(scores).scatter_add_(-1, tokens, generated).gather(-1, tokens)
        values = values - frequency * times - presence * (times > 0)
    scores.scatter_(-1, tokens, values)


def _min_p(scores: Tensor, options: RowOptions, temperature: Tensor) -> Tensor:
    """Of logits: p >= min_p * p_max is logit >= logit_max + temperature * log(min_p). The likeliest always stays: greedy rows are as they were."""
    least = scores.amax(-1, keepdim=True) + (temperature * options.reals[:, 3].log())[:, None, None].nan_to_num(
        -torch.inf
    )
    return scores.masked_fill_(scores < least, -torch.inf)
