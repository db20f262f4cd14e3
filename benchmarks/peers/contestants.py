"""The ways to decode the same rows that a benchmark holds side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from specbatch.engine.config import EngineConfig
from specbatch.engine.general.drafter import Drafter
from specbatch.engine.general.model import CausalLM
from specbatch.engine.make_engine import general_engine
from specbatch.engine.request import Request
from specbatch.engine.speculation.depth import Speculation
from specbatch.engine.stats import EngineStats


@dataclass(frozen=True)
class Workload:
    """Rows to decode greedily: prompts as token ids, and where each row ends."""

    prompts: Sequence[Sequence[int]]
    new_tokens: int
    eos_token_ids: frozenset[int]  # empty: every row takes all its new tokens
    batch: int
    max_length: int


@dataclass(frozen=True)
class Outcome:
    """One measured run: seconds without loading and warm-up, the tokens of each row, engine counters where there are any."""

    seconds: float
    tokens: list[list[int]]
    stats: EngineStats | None = None

    @property
    def tokens_per_second(self) -> float:
        """Kept tokens a second, over the batch."""
        return sum(map(len, self.tokens)) / self.seconds


def engine(target: CausalLM, drafter: Drafter | None, k: int | None) -> Callable[[Workload], Outcome]:
    """This project's engine; k None is auto."""

    def run(work: Workload) -> Outcome:
        speculation = Speculation.adaptive(8) if k is None else Speculation.fixed(k)
        config = EngineConfig(work.batch, work.max_length, speculation)
        decoder = general_engine(target, drafter, config)
        decoder.warmup()
        requests = [
            Request(str(i), prompt, work.new_tokens, eos_token_ids=work.eos_token_ids)
            for i, prompt in enumerate(work.prompts)
        ]
        start = time.perf_counter()
        done = {completion.request.id: list(completion.token_ids) for completion in decoder.generate(requests)}
        seconds = time.perf_counter() - start
        return Outcome(seconds, [done[request.id] for request in requests], decoder.stats)

    return run


def transformers_generate(model: Any, **options: Any) -> Callable[[Workload], Outcome]:
    """transformers' generate on static batches, padded on the left; a batch ends with its longest row."""

    def run(work: Workload) -> Outcome:
        eos = sorted(work.eos_token_ids) or None
        tokens: list[list[int]] = []
        start = time.perf_counter()
        for first in range(0, len(work.prompts), work.batch):
            rows = work.prompts[first : first + work.batch]
            width = max(map(len, rows))
            ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in rows], device=model.device)
            mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=model.device)
            out = model.generate(
                ids,
                attention_mask=mask,
                max_new_tokens=work.new_tokens,
                do_sample=False,
                eos_token_id=eos,
                pad_token_id=0,
                **options,
            )
            tokens += [_until_eos(row, work.eos_token_ids) for row in out[:, width:].tolist()]
        return Outcome(time.perf_counter() - start, tokens)

    return run


def _until_eos(row: list[int], eos: frozenset[int]) -> list[int]:
    end = next((i for i, token in enumerate(row) if token in eos), len(row))
    return row[: end + 1]
