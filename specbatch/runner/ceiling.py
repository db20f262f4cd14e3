"""The speed that the hardware would have allowed for the rows of this run: its measured speed is compared with this ceiling."""

from __future__ import annotations

from dataclasses import dataclass, replace

from specbatch.engine.stats import EngineStats
from specbatch.plan.ceiling import predict
from specbatch.plan.plan_request import PlanRequest
from specbatch.plan.types import Plan


@dataclass(frozen=True, slots=True)
class CeilingOfRun:
    """The plan's ceiling at the batch, lengths and acceptance that the run has measured.

    Attributes:
        plan: the placement.
        request: what was planned; the devices' figures are nominal, the CPU's measured.
    """

    plan: Plan
    request: PlanRequest

    def __call__(self, stats: EngineStats) -> float | None:
        """Tokens per second; None before the first row has ended."""
        ended = stats.finished + stats.failed
        if not ended or not stats.rounds:
            return None
        # Of a draft, given that those before it were accepted: that of the first draft of a round, which does not depend on k.
        first = stats.accepted_by_position[0] / stats.drafted_by_position[0] if stats.drafted else 0.0
        mean_length = round((stats.prompt_tokens + stats.emitted / 2) / ended)
        measured = replace(self.request, acceptance_rate=first, mean_length=mean_length)
        rows = max(1, round(stats.row_rounds / stats.rounds))
        replicas = self.plan.replicas
        return predict(measured, replicas[0], rows, replicas=len(replicas)).tokens_per_second
