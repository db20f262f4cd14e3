"""What chooses tokens from logits as Triton kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from specbatch.engine.counter_rng import Purpose
from specbatch.engine.graphs.kernels import filtered_sampling, logits_processors, logprobs, sampling, top_candidates
from specbatch.engine.graphs.reference import TorchOps
from specbatch.engine.logits.logprobs import MOST, Logprobs
from specbatch.engine.logits.options import Processor
from specbatch.engine.logits.row_options import RowOptions

_DTYPES = (torch.bfloat16, torch.float16, torch.float32)


class TritonTokenChoice(TorchOps):
    """See TritonOps."""

    def sample(self, logits: Tensor, keys: Tensor | None, temperature: Tensor | None) -> tuple[Tensor, Tensor]:
        """As in TorchOps."""
        draw = sampling.sample if logits.dtype in _DTYPES else super().sample
        return draw(logits, keys, temperature)

    def sample_filtered(
        self, logits: Tensor, keys: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As in TorchOps."""
        draw = filtered_sampling.sample_filtered if logits.dtype in _DTYPES else super().sample_filtered
        return draw(logits, keys, temperature, top_k, top_p)

    def position_keys(self, row_keys: Tensor, positions: Tensor, purpose: Purpose) -> Tensor:
        """As in TorchOps."""
        return sampling.position_keys(row_keys, positions, int(purpose))

    def top_candidates(self, logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """As in TorchOps."""
        known = logits.dtype in _DTYPES
        return top_candidates.top_candidates(logits, count) if known else super().top_candidates(logits, count)

    def process_logits(
        self,
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
        """As in TorchOps."""
        run = logits_processors.process if logits.dtype in _DTYPES else super().process_logits
        return run(logits, options, processors, history, slots, positions, prompt_lengths, temperature, mask)

    def logprobs(self, logits: Tensor, tokens: Tensor) -> Logprobs:
        """As in TorchOps."""
        *of_rows, vocab = logits.shape
        if logits.dtype not in _DTYPES or vocab < MOST:
            return super().logprobs(logits, tokens)
        values, likeliest = logprobs.logprobs(logits.reshape(-1, vocab), tokens.reshape(-1), MOST)
        return Logprobs(values.view(*of_rows, 1 + MOST), likeliest.view(*of_rows, MOST))
