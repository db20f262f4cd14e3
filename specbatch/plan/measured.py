"""What a former run has measured of its rounds, in place of data sheets and assumptions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from specbatch.plan.ceiling import visits_of_round
from specbatch.plan.device_map import place_model
from specbatch.plan.plan_request import PlanRequest
from specbatch.plan.types import GpuShape, ReplicaPlan, Speculation

_FEWEST_DRAFTS = 0.1  # of a row in a round: with fewer, what a draft took is not known


@dataclass(frozen=True, slots=True)
class MeasuredRounds:
    """The mean round of a run.

    Attributes:
        source: the run's folder.
        gpu: each of its GPUs, or its CPU.
        rows: of a round.
        drafts: of a row in a round.
        draft_seconds: of a round, all its drafts.
        verify_seconds: likewise of the target.
        acceptance: share of a round's first drafts that were accepted; None where nothing was drafted.
        mean_length: tokens in the cache of an average row.
        prefill_share: of the engine's time.
    """

    source: str
    gpu: GpuShape
    rows: float
    drafts: float
    draft_seconds: float
    verify_seconds: float
    acceptance: float | None
    mean_length: int
    prefill_share: float

    def slowdown(self, request: PlanRequest) -> Mapping[str, float]:
        """Role -> how many times as long its forwards took as the data sheet of their GPU allows; a drafter that hardly drafted is taken to be as the target."""
        device = "cpu" if self.gpu.is_cpu else "cuda:0"
        asked = replace(request, gpus={device: self.gpu}, mean_length=self.mean_length, slowdown={})
        placed = ReplicaPlan(
            place_model(request.target, [device]), place_model(request.drafter, [device]) if request.drafter else None
        )

        def nominal(k: int, *, drafting: bool) -> float:
            visits = visits_of_round(asked, placed, self.rows, k)
            return sum(visit.seconds for visit in visits if visit.drafting is drafting)

        low = int(self.drafts)
        share = self.drafts - low
        verify = (1 - share) * nominal(low, drafting=False) + share * nominal(low + 1, drafting=False)
        found = {"target": self.verify_seconds / verify}
        known = request.drafter is not None and self.drafts >= _FEWEST_DRAFTS and self.draft_seconds > 0
        found["drafter"] = self.draft_seconds / (self.drafts * nominal(1, drafting=True)) if known else found["target"]
        return found

    def applied_to(self, request: PlanRequest, *, acceptance: bool, mean_length: bool) -> PlanRequest:
        """The request with these times, and where asked for with this acceptance and length in place of what is assumed."""
        drafted = (
            acceptance and self.acceptance is not None and request.speculation != Speculation(0, is_adaptive=False)
        )
        return replace(
            request,
            slowdown=self.slowdown(request),
            acceptance_rate=self.acceptance if drafted and self.acceptance is not None else request.acceptance_rate,
            mean_length=min(self.mean_length, request.max_length) if mean_length else request.mean_length,
        )
