"""What the hardware would have allowed for the rows that really came: the ceiling that a run's speed is held against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from specbatch.api.job import Spec
from specbatch.engine.stats import EngineStats
from specbatch.plan.ceiling import Assumptions, ceiling_of
from specbatch.plan.shape import ModelShape
from specbatch.plan.types import GpuShape, Plan


@dataclass(frozen=True, slots=True)
class CeilingOfRun:
    """The plan's ceiling at the batch, lengths and acceptance that the run has measured.

    Args:
        plan: the placement.
        target: its shape.
        drafter: None: the target alone, or a drafter that costs nothing.
        gpus: the devices, nominal; the CPU's own figures are measured.
        fixed_k: num_speculative_tokens where the spec names it.
        max_k: the largest that auto may take; 0 without any drafter.
    """

    plan: Plan
    target: ModelShape
    drafter: ModelShape | None
    gpus: Sequence[GpuShape]
    fixed_k: int | None
    max_k: int

    @classmethod
    def of(
        cls, spec: Spec, plan: Plan, target: ModelShape, drafter: ModelShape | None, gpus: Sequence[GpuShape]
    ) -> Self:
        """With k as the spec has it."""
        k = spec.decoding.num_speculative_tokens
        if spec.drafter is None:
            return cls(plan, target, drafter, gpus, fixed_k=None, max_k=0)
        if k == "auto":
            return cls(plan, target, drafter, gpus, fixed_k=None, max_k=spec.decoding.max_speculative_tokens)
        return cls(plan, target, drafter, gpus, fixed_k=k, max_k=k)

    def __call__(self, stats: EngineStats) -> float | None:
        """Tokens per second; None before the first row has ended."""
        ended = stats.finished + stats.failed
        if not ended or not stats.rounds:
            return None
        # Of a draft, given that those before it stood: the first of a round says it, whatever k was.
        first = stats.accepted_by_position[0] / stats.drafted_by_position[0] if stats.drafted else 0.0
        assumed = Assumptions(
            rows=max(1, round(stats.row_rounds / stats.rounds)),
            mean_length=round((stats.prompt_tokens + stats.emitted / 2) / ended),
            acceptance_rate=first,
            fixed_k=self.fixed_k,
            max_k=self.max_k,
        )
        return ceiling_of(self.plan, self.target, self.drafter, self.gpus, assumed).tokens_per_second
