"""Sizes and rules of an engine."""

from __future__ import annotations

from dataclasses import dataclass, field

from specbatch.engine.request import AcceptanceRule, SamplingParams


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How an engine runs.

    max_sequences: rows at once, halved when memory runs out
    max_length: prompt and new tokens of a row, at the most
    num_speculative_tokens: k; None: chosen from measured costs and acceptance
    max_speculative_tokens: the largest k when it is chosen
    prefill_chunk: tokens in one prefill forward
    gpu_prefill_chunk: the same on the fast path of a GPU, which takes larger ones
    sampling: of most rows: what a GPU is made ready for before the first
    price_plain_rounds: measure at warm-up also where k is fixed, for EngineStats.target_only_seconds
    """

    max_sequences: int = 8
    max_length: int = 1024
    num_speculative_tokens: int | None = None
    max_speculative_tokens: int = 8
    acceptance_rule: AcceptanceRule = "coupled"
    prefill_chunk: int = 512
    gpu_prefill_chunk: int = 4096
    sampling: SamplingParams = field(default_factory=SamplingParams)
    price_plain_rounds: bool = False

    @property
    def max_k(self) -> int:
        """The largest k that a round may draft."""
        return self.max_speculative_tokens if self.num_speculative_tokens is None else self.num_speculative_tokens

    @property
    def max_positions(self) -> int:
        """Positions of a slot: a row's tokens, and what is drafted beyond its end."""
        return self.max_length + self.max_k + 1
