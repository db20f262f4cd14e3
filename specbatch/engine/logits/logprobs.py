"""Log probabilities of a row's tokens: of the target as it is, before any option, temperature or filter (vLLM's raw_logprobs)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from specbatch.engine.request import Request, TokenLogprobs
from specbatch.engine.timing import Mark, reach

MOST = 20  # likeliest tokens of a position
PROMPT_TOKENS = 256  # of prompts, whose logits are held at once


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


@dataclass(frozen=True, slots=True)
class PromptLogprobs:
    """Of a prompt's tokens from the second on, as its prefill makes them: the target's at the position before each.

    stretches: one after the other, each on the host once its mark is reached; of one row
    """

    stretches: list[tuple[Logprobs, Mark]] = field(default_factory=list)

    def read(self, request: Request) -> list[TokenLogprobs]:
        """All of them, each with as many of the likeliest tokens as are asked for."""
        prompt, most = request.prompt_token_ids, request.prompt_logprobs
        found: list[TokenLogprobs] = []
        for stretch, copied in self.stretches:
            reach(copied)
            first = len(found) + 1
            found += stretch.of_tokens([prompt[first : first + stretch.tokens.shape[1]]], [most])[0]
        assert len(found) == len(prompt) - 1, "every position was filled with them"
        return found
