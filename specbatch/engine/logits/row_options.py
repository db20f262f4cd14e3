"""The rows' options as tensors, from which their logits are processed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from specbatch.engine.logits.options import LogitsOptions
from specbatch.engine.request import Request


class OptionSizes(NamedTuple):
    """Entries that the tensors of a row have room for; longest_word counts a word's tokens."""

    biased: int
    bad_words: int
    longest_word: int

    @classmethod
    def needed(cls, options: Sequence[LogitsOptions]) -> Self:
        """By the options of some rows, and no more."""
        words = [one.bad_words for one in options]
        return cls(
            biased=max(len(one.bias) for one in options),
            bad_words=max(map(len, words)),
            longest_word=max(map(len, chain.from_iterable(words)), default=1),
        )


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
    def of(cls, requests: Sequence[Request], device: torch.device, room: OptionSizes | None = None) -> Self:
        """Stacks the requests' options.

        Args:
            requests: of the rows.
            device: of the tensors.
            room: entries a row; default: as many as these rows need.
        """
        by_identity = {id(request.logits): request.logits for request in requests}  # mostly the same few
        place = {key: number for number, key in enumerate(by_identity)}
        rows, options = [place[id(request.logits)] for request in requests], list(by_identity.values())
        room = room or OptionSizes.needed(options)
        pairs = np.zeros((len(options), room.biased, 2), np.int64)
        values = np.zeros((len(options), room.biased), np.float32)
        bad_words = np.full((len(options), room.bad_words, room.longest_word), -1, np.int64)
        for number, one in enumerate(options):
            if biased := len(one.bias):
                pairs[number, :biased] = [(entry.token, entry.until) for entry in one.bias]
                values[number, :biased] = [entry.value for entry in one.bias]
            for place_of_word, word in enumerate(one.bad_words):
                bad_words[number, place_of_word, room.longest_word - len(word) :] = word
        reals = [(one.repetition_penalty, one.frequency_penalty, one.presence_penalty, one.min_p) for one in options]

        def by_row(of: np.ndarray) -> Tensor:
            return torch.from_numpy(of[rows]).to(device)  # not by PyTorch, which would wake all cores for it

        return cls(
            reals=by_row(np.array(reals, np.float32)),
            ngram=by_row(np.array([one.no_repeat_ngram_size for one in options])),
            bias_tokens=by_row(pairs[..., 0]),
            bias_until=by_row(pairs[..., 1]),
            bias_values=by_row(values),
            bad_words=by_row(bad_words),
            entries=by_row(np.array([(len(one.bias), len(one.bad_words)) for one in options])),
        )

    def lines(self, rows: Tensor) -> RowOptions:
        """Of these rows, without entries that are not their own.  # int64 [batch]"""
        found = RowOptions(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})
        biases, words = found.entries.split(1, dim=1)
        counts = torch.arange(found.bias_until.shape[1], device=biases.device) < biases
        bad_words = found.bad_words.masked_fill((words == 0)[..., None], -1)
        return replace(found, bias_until=found.bias_until * counts, bad_words=bad_words)
