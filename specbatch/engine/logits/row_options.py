"""The rows' options as tensors, from which their logits are processed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple, Self

import torch
from torch import Tensor
from torch.nn.functional import pad

from specbatch.engine.request import Request


class OptionSizes(NamedTuple):
    """Entries that the tensors of a row have room for; longest_word counts a word's tokens."""

    biased: int
    bad_words: int
    longest_word: int


@dataclass(frozen=True, slots=True)
class RowOptions:
    """The rows' options as tensors; what a row does not ask is filled up with what does nothing.

    reals: repetition_penalty, frequency_penalty, presence_penalty, min_p  # float32 [batch, 4]
    ngram: no_repeat_ngram_size  # int64 [batch]
    bias_tokens, bias_until: int64 [batch, biased]; bias_values: float32 [batch, biased]
    bad_words: tokens, -1 before the first  # int64 [batch, bad_words, longest_word]
    entries: how many of bias and of bad_words are the row's own  # int64 [batch, 2]
    """

    reals: Tensor
    ngram: Tensor
    bias_tokens: Tensor
    bias_until: Tensor
    bias_values: Tensor
    bad_words: Tensor
    entries: Tensor

    @classmethod
    def of(cls, requests: Sequence[Request], device: torch.device) -> Self:
        """Stacks the requests' options, with as many entries as these rows need."""
        by_identity = {id(request.logits): request.logits for request in requests}  # mostly the same few
        place = {key: number for number, key in enumerate(by_identity)}
        rows, options = torch.tensor([place[id(request.logits)] for request in requests]), list(by_identity.values())
        biased = max(len(one.bias) for one in options)
        words = max(len(one.bad_words) for one in options)
        longest = max((len(word) for one in options for word in one.bad_words), default=1)
        pairs = [_filled([(entry.token, entry.until) for entry in one.bias], biased, (0, 0)) for one in options]
        values = [_filled([entry.value for entry in one.bias], biased, 0.0) for one in options]
        bad_words = [
            _filled([_word(word, longest) for word in one.bad_words], words, _word((), longest)) for one in options
        ]
        reals = [(one.repetition_penalty, one.frequency_penalty, one.presence_penalty, one.min_p) for one in options]

        def tensor(of: Sequence[object], *shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
            return torch.tensor(of, dtype=dtype).view(len(options), *shape)[rows].to(device)

        bias = tensor(pairs, biased, 2)
        return cls(
            reals=tensor(reals, 4, dtype=torch.float32),
            ngram=tensor([one.no_repeat_ngram_size for one in options]),
            bias_tokens=bias[..., 0],
            bias_until=bias[..., 1],
            bias_values=tensor(values, biased, dtype=torch.float32),
            bad_words=tensor(bad_words, words, longest),
            entries=tensor([(len(one.bias), len(one.bad_words)) for one in options], 2),
        )

    def padded(self, sizes: OptionSizes) -> RowOptions:
        """With room for so many entries a row."""
        biased = (0, sizes.biased - self.bias_tokens.shape[1])
        _, words, longest = self.bad_words.shape
        return replace(
            self,
            bias_tokens=pad(self.bias_tokens, biased),
            bias_until=pad(self.bias_until, biased),
            bias_values=pad(self.bias_values, biased),
            bad_words=pad(self.bad_words, (sizes.longest_word - longest, 0, 0, sizes.bad_words - words), value=-1),
        )

    def lines(self, rows: Tensor) -> RowOptions:
        """Of these rows, without entries that are not their own.  # int64 [batch]"""
        found = RowOptions(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})
        biases, words = found.entries.split(1, dim=1)
        counts = torch.arange(found.bias_until.shape[1], device=biases.device) < biases
        bad_words = found.bad_words.masked_fill((words == 0)[..., None], -1)
        return replace(found, bias_until=found.bias_until * counts, bad_words=bad_words)


def _word(tokens: Sequence[int], longest: int) -> list[int]:
    return [*[-1] * (longest - len(tokens)), *tokens]


def _filled(entries: Sequence[object], count: int, filler: object) -> list[object]:
    return [*entries, *[filler] * (count - len(entries))]
