"""The target's scores from vLLM: the likeliest tokens' logits after any tokens of a row, for `specbatch verify`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from specbatch.runner.vllm.engine import StepLoop, engine_errors

LIKELIEST = 20  # tokens whose logits it gives at each position, by its default


class VllmScores:
    """Scores of one row at a time, one token a request: what came before stands in vLLM's prefix cache.

    Args:
        loop: vLLM's engine, without rows.
        params: SamplingParams of one greedy token with the logits of the LIKELIEST.
        vocab_size: of the model.
        adapter: vLLM's LoRARequest for every row, or None.
    """

    def __init__(self, loop: StepLoop, params: Any, vocab_size: int, adapter: Any = None) -> None:
        self._loop = loop
        self._params = params
        self._vocab_size = vocab_size
        self._adapter = adapter
        self._asked = 0

    def after(self, prompt: Sequence[int], tokens: Sequence[int], guess: Sequence[int]) -> Tensor:  # noqa: ARG002 - of the protocol
        """Logits of the next token, in float32; -inf of all but the likeliest.  # [vocab]"""
        self._asked += 1
        with engine_errors():
            row = {"prompt_token_ids": [*prompt, *tokens]}
            self._loop.add_request(f"scores {self._asked}", row, self._params, lora_request=self._adapter)
            found = next(output for outputs in iter(self._loop.step, None) for output in outputs if output.finished)
        logits = torch.full((self._vocab_size,), -torch.inf)
        for token, score in found.outputs[0].logprobs[0].items():
            logits[token] = score.logprob
        return logits
