"""Log probabilities of a row's tokens: of the target as it is, before any option, temperature or filter (vLLM's raw_logprobs)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from specbatch.engine.request import TokenLogprobs

MOST = 20  # likeliest tokens of a position


class Logprobs(NamedTuple):
    """Of the tokens of a round.

    values: of the token, then of the likeliest ones  # float32 [rows, n, 1 + MOST]
    tokens: the likeliest ones  # int64 [rows, n, MOST]
    """

    values: Tensor
    tokens: Tensor

    @classmethod
    def empty(cls, rows: int, n: int, device: torch.device) -> Logprobs:
        """Room for so many."""
        values = torch.zeros(rows, n, 1 + MOST, dtype=torch.float32, device=device)
        return cls(values, torch.zeros(rows, n, MOST, dtype=torch.int64, device=device))

    @classmethod
    def of(cls, logits: Tensor, tokens: Tensor) -> Logprobs:
        """Of tokens that were chosen.  # [rows, n, vocab], int64 [rows, n]; -inf where the vocabulary is smaller than MOST"""
        wide = logits.float()
        total = wide.logsumexp(-1, keepdim=True)
        chosen = wide.gather(-1, tokens[..., None]) - total
        best = wide.topk(min(MOST, wide.shape[-1]), dim=-1)
        missing = 0, MOST - best.values.shape[-1]
        values = torch.nn.functional.pad(best.values - total, missing, value=-torch.inf)
        return cls(torch.cat([chosen, values], -1), torch.nn.functional.pad(best.indices, missing))

    def of_tokens(self, rows: Sequence[Sequence[int]], asked: Sequence[int | None]) -> list[list[TokenLogprobs]]:
        """On the host, for the first tokens of each row that asks: with as many of the likeliest as it asks for."""
        found: list[list[TokenLogprobs]] = []
        for row, (tokens, most) in enumerate(zip(rows, asked, strict=True)):
            if most is None:
                found.append([])
                continue
            values, ids = self.values[row, : len(tokens)].tolist(), self.tokens[row, : len(tokens), :most].tolist()
            each = zip(tokens, values, ids, strict=True)
            found.append(
                [TokenLogprobs(token, one[0], list(zip(top, one[1:], strict=False))) for token, one, top in each]
            )
        return found
