"""What a run's rounds took, as `specbatch plan` takes it in place of data sheets."""

from __future__ import annotations

from specbatch.plan.gpu_products import visible_gpu_shape
from specbatch.plan.gpus import cpu_shape
from specbatch.plan.measured import MeasuredRounds
from specbatch.plan.types import GpuShape
from specbatch.results.report.cycle import cycle_of
from specbatch.results.report.facts import RunFacts, gather
from specbatch.results.storage.folder import Folder

_FEWEST_ROUNDS = 20


def measured_rounds(folder: Folder, models: dict[str, str]) -> MeasuredRounds | str:
    """The mean round of a run of these models; or why it has none to tell of.

    Args:
        folder: of the run.
        models: role -> model, as the spec names it.

    Raises:
        ResultsError: there is no run in the folder, or it cannot be read.
    """
    facts = gather(folder, rows=False)
    summary = facts.summary
    if not facts.manifests:
        return "it has not ended, so its placement is not recorded"
    if summary.rounds < _FEWEST_ROUNDS or not facts.totals.rows:
        return f"it has fewer than {_FEWEST_ROUNDS} rounds"
    known = {role: name.rpartition("@")[0] for role, name in facts.manifests[0].identity.models.items()}
    if known.get("target") != models["target"] or (summary.drafted and known.get("drafter") != models.get("drafter")):
        return f"it is of other models: {', '.join(known.values())}"
    gpu = _gpu_of(facts)
    if gpu is None:
        return "it does not say on which GPUs it was, or they are of several products"
    draft, verify = _seconds_of_round(facts)
    first = summary.drafted_by_position and summary.drafted_by_position[0]
    return MeasuredRounds(
        source=folder.uri,
        gpu=gpu,
        rows=summary.row_rounds / summary.rounds,
        drafts=summary.drafted / summary.row_rounds,
        draft_seconds=draft,
        verify_seconds=verify,
        acceptance=summary.accepted_by_position[0] / first if first else None,
        mean_length=max(1, round((summary.prompt_tokens + summary.completion_tokens / 2) / facts.totals.rows)),
        prefill_share=summary.phase_seconds.get("prefill", 0.0) / sum(summary.phase_seconds.values()),
    )


def _seconds_of_round(facts: RunFacts) -> tuple[float, float]:
    """Of the drafter and of the target; where rounds are beside each other, what their GPUs were at work."""
    cycle = cycle_of(facts)
    if not isinstance(cycle, str):
        of = {
            drafting: sum(lane.seconds for lane in cycle.lanes if lane.drafting is drafting)
            for drafting in (True, False)
        }
        return of[True], of[False]
    phases, rounds = facts.summary.phase_seconds, facts.summary.rounds
    return phases.get("draft", 0.0) / rounds, (phases.get("verify", 0.0) + phases.get("accept", 0.0)) / rounds


def _gpu_of(facts: RunFacts) -> GpuShape | None:
    hardware = facts.manifests[0].hardware
    if hardware is None or len(hardware.gpus) > 1:
        return None
    if not hardware.gpus:
        return cpu_shape()
    (product,) = hardware.gpus
    return visible_gpu_shape(product, hardware.gpu_bytes.get(product, 0))
