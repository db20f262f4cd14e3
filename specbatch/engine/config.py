"""Sizes and rules of an engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from specbatch.engine.request import AcceptanceRule, SamplingParams
from specbatch.engine.speculation.depth import MOST_FORCED, Speculation

_KV_RESERVE = 4 << 30  # bytes of a GPU


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How an engine runs.

    max_sequences: sequences at once, halved when memory runs out
    max_length: prompt and new tokens of a sequence, at the most
    speculation: fixed or adaptive k
    prefill_chunk: tokens in one prefill forward on a CPU
    graphs_prefill_chunk: the same on GPUs
    sampling: of most sequences: what a GPU is made ready for before the first
    kv_reserve: "cuda:0" -> bytes there that pages leave free, for activations, logits and captures; measured: 1.2 to 3.4 GB. 4 GiB of what is not named
    micro_batches: groups of rows in flight; None: as many as pay, one where nothing can run beside anything else
    stages_per_device, drafter_apart: try a pipeline on one device: the target's layers in so many stages, the drafter beside them
    prefix_caching: what rows begin with alike is computed once
    cascade_attention: rows of a round of the graphs runner that share pages read these together; None: on a GPU, where that pays
    drafter_window: tokens of a row that a draft model of the graphs runner sees at least, beside the first few; None: all
    price_plain_rounds: measure at warm-up also where k is fixed, for EngineStats.target_only_seconds
    """

    max_sequences: int = 8
    max_length: int = 1024
    speculation: Speculation = field(default_factory=lambda: Speculation.adaptive(8))
    acceptance_rule: AcceptanceRule = "coupled"
    prefill_chunk: int = 512
    graphs_prefill_chunk: int = 4096
    sampling: SamplingParams = field(default_factory=SamplingParams)
    kv_reserve: Mapping[str, int] = field(default_factory=dict)
    micro_batches: int | None = None
    stages_per_device: int = 1
    drafter_apart: bool = False
    prefix_caching: bool = True
    cascade_attention: bool | None = None
    drafter_window: int | None = None
    price_plain_rounds: bool = False

    def kv_reserve_of(self, device: str) -> int:
        """Bytes of a GPU that pages leave free."""
        return self.kv_reserve.get(device, _KV_RESERVE)

    @property
    def max_k(self) -> int:
        """The largest k that a round may draft."""
        return self.speculation.max_k

    @property
    def most_k(self) -> int:
        """Drafts a row that a round may bring: the drafter's, or where there is none those that grammars force."""
        return self.max_k or MOST_FORCED

    @property
    def max_positions(self) -> int:
        """Positions that a sequence may fill: its own tokens, and what is drafted beyond its end."""
        return self.max_length + self.max_k + 1
