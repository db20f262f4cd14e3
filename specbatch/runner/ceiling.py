"""The speed that the hardware would have allowed for the rows of this run: its measured speed is compared with this ceiling."""

from __future__ import annotations

from dataclasses import dataclass, replace

from specbatch.engine.stats import EngineStats
from specbatch.plan.ceiling import predict
from specbatch.plan.plan_request import PlanRequest
from specbatch.plan.types import Plan

_LEAST_FORWARD_SECONDS = 2e-4  # a captured forward of some thirty layers takes a GPU about as long, whatever they weigh


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
        """Tokens per second; None before the first row has ended, and where a ceiling would say nothing.

        It counts what memory and arithmetic take. On a CPU, whose caches hold more than its memory's figures say, and for models
        that a GPU reads sooner than the host launches the kernels that do so, a run is far from it for reasons that are neither.
        """
        ended = stats.finished + stats.failed
        if not ended or not stats.rounds or any(gpu.is_cpu for gpu in self.request.gpus.values()):
            return None
        # Of a draft, given that those before it were accepted: that of the first draft of a round, which does not depend on k.
        first = stats.accepted_by_position[0] / stats.drafted_by_position[0] if stats.drafted else 0.0
        mean_length = round((stats.prompt_tokens + stats.emitted / 2) / ended)
        measured = replace(self.request, acceptance_rate=first, mean_length=mean_length)
        rows = max(1, round(stats.row_rounds / stats.rounds))
        replicas = self.plan.replicas
        found = predict(measured, replicas[0], rows, replicas=len(replicas))
        forward_seconds = rows * len(replicas) / found.target_only  # of the target alone
        return found.tokens_per_second if forward_seconds >= _LEAST_FORWARD_SECONDS else None
