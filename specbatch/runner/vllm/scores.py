"""The target's scores from vLLM: the logits after any tokens of a row, for `specbatch verify`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from specbatch.engine.request import Request
from specbatch.runner.vllm.engine import VllmEngine


@dataclass(frozen=True, slots=True)
class VllmScores:
    """Scores of one row at a time, one token a request: what came before stands in vLLM's prefix cache.

    engine: without a drafter, whose log probabilities are logits
    vocab_size: of the model
    """

    engine: VllmEngine
    vocab_size: int

    def after(self, prompt: Sequence[int], tokens: Sequence[int], guess: Sequence[int]) -> Tensor:  # noqa: ARG002 - of the protocol
        """Logits of the next token, in float32.  # [vocab]"""
        asked = Request("scores", [*prompt, *tokens], 1, top_logprobs=self.vocab_size)
        [row] = self.engine.generate([asked])
        assert row.logprobs is not None, "they were asked for"
        ids, values = zip(*row.logprobs[0].top, strict=True)
        return torch.zeros(self.vocab_size).scatter_(0, torch.tensor(ids), torch.tensor(values))
