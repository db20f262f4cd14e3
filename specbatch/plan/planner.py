"""make_plan: a spec, two model shapes and the GPUs, resolved into one frozen placement with its ceiling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from specbatch.api import SpecBatchJob
from specbatch.plan.advice.limits import rows_limit
from specbatch.plan.advice.problems import notes_of, problems_of
from specbatch.plan.advice.recommendation import Choices, recommend
from specbatch.plan.advice.timeline import timeline_of
from specbatch.plan.candidates import best_of_each, choose
from specbatch.plan.device_map import place_replicas
from specbatch.plan.layouts import Layout, possible_layouts
from specbatch.plan.measured import MeasuredRounds
from specbatch.plan.placement_request import placement_request
from specbatch.plan.plan_request import PlanRequest
from specbatch.plan.shapes.eagle3_shape import check_fits, mtp_shape
from specbatch.plan.shapes.model_shape import ModelShape
from specbatch.plan.types import GpuShape, Plan, Recommendation


def make_plan(
    job: SpecBatchJob,
    target: ModelShape,
    drafter: ModelShape | None,
    gpus: Sequence[GpuShape],
    env: Mapping[str, str] | None = None,
    *,
    acceptance_rate: float | None = None,
    mean_length: int | None = None,
    measured: MeasuredRounds | None = None,
) -> Plan:
    """The placement that the runner follows.

    Args:
        job: the spec.
        target: its shape.
        drafter: its shape; None without a drafter model (target alone, its own layer, or n-gram lookup).
        gpus: the GPUs of one pod, cuda:0 first, as many as placement.gpus; empty or one `cpu_shape()` for the CPU.
        env: where the placement variables are looked up; nothing overrides the spec when None.
        acceptance_rate: assumed for the ceiling; 0.8 when None (0.7 of an EAGLE-3 head, 0.3 of n-gram lookup).
        mean_length: tokens in the cache of an average row, assumed for the ceiling; half of maxLength when None.
        measured: of a former run: its times, and its acceptance and lengths where those are None, give the figures. Which placement `auto` takes does
            not hang on it: a run knows nothing of other runs.

    Raises:
        SpecError: the placement variables are malformed, or contradict each other or the spec.
        DeviceError: the GPUs are not as many as the spec or the strategy needs.
        ModelError: a model is to be spread over GPUs whose modules are not known by name, or a head is not made for the target.
    """
    method = job.spec.drafter.method if job.spec.drafter else None
    drafter = mtp_shape(target) if method == "mtp" else drafter
    has_drafter = drafter is not None
    if drafter is not None and method != "mtp" and (method == "eagle3" or drafter.eagle3 is not None):
        check_fits(drafter, target)
    request = PlanRequest.of(job, target, drafter, gpus, acceptance_rate, mean_length)
    devices = tuple(request.gpus)
    wanted = placement_request(job, devices, env or {}, has_drafter=has_drafter)
    own = best_of_each(request, wanted.families)
    families = list(possible_layouts(devices, replicas=None, has_drafter=has_drafter))
    paired = own if wanted.families == families else best_of_each(request, families)
    alone = None
    if has_drafter:
        alone = choose(
            best_of_each(request.without_drafter(), possible_layouts(devices, replicas=None, has_drafter=False))
        )
    choices = Choices(choose(own), paired, choose(paired), alone)
    if measured is not None:
        assumed = {"acceptance": acceptance_rate is None, "mean_length": mean_length is None}
        choices = choices.rated(lambda one: measured.applied_to(one, **assumed))
    return _plan(choices, recommend(choices, job.spec, wanted.variables), wanted.variables)


def _plan(choices: Choices, recommendation: Recommendation, variables: Sequence[str]) -> Plan:
    chosen = choices.own
    request, memory, rows = chosen.request, chosen.memory, chosen.rows
    uses = memory.device_uses(rows)
    others = [one for one in choices.paired if one.layout != chosen.layout]
    others += [choices.alone] if choices.alone else []
    return Plan(
        strategy=chosen.layout.strategy,
        replicas=place_replicas(
            chosen.layout,
            request.target,
            request.drafter,
            memory.kv_tokens(rows),
            lambda devices: memory.drafter_kv_tokens(rows, devices if chosen.layout.drafters > 1 else ()),
            sliding_tokens=memory.sliding_tokens(rows),
            gpus=request.gpus,
        ),
        max_sequences=rows,
        rows_limit=rows_limit(chosen, uses) if chosen.fits else "",
        slot_sequences=max(1, memory.most_rows(rows, slots=True)),
        max_length=request.max_length,
        speculation=request.speculation,
        env_strings=_env_strings(chosen.layout),
        fits=all(use.free_bytes >= 0 for use in uses),
        problems=tuple(problems_of(chosen, uses)),
        devices=uses,
        ceiling=chosen.ceiling,
        alternatives=(chosen.as_alternative(chosen=True), *(other.as_alternative() for other in others)),
        recommendation=recommendation,
        timeline=timeline_of(request, chosen.replicas[0], rows, chosen.ceiling) if chosen.fits else None,
        notes=tuple(notes_of(chosen, variables)),
        slowdown=request.slowdown,
        models={role: _facts(shape) for role, shape in request.models.items()},
    )


def _env_strings(layout: Layout) -> dict[str, str]:
    """The layout as placement variables."""
    targets, drafters = zip(*layout.replicas, strict=True)
    strings = {"GPU_STRATEGY": layout.strategy, "TARGET_GPU": ";".join(",".join(group) for group in targets)}
    if drafters[0]:
        each = len(drafters[0]) // layout.drafters
        strings["DRAFTER_GPU"] = ";".join(
            "+".join(",".join(group[at : at + each]) for at in range(0, len(group), each)) for group in drafters
        )
    if layout.strategy == "multi_gpu_ratio":
        strings["TARGET_GPU_RATIO"] = str(len(targets[0]))
        if drafters[0]:
            strings["DRAFTER_GPU_RATIO"] = str(len(drafters[0]))
    return strings


def _facts(shape: ModelShape) -> dict[str, str | int]:
    return {
        "name": shape.name,
        "architecture": shape.architecture,
        "params": shape.params,
        "layers": shape.num_layers,
        "dtype_bytes": shape.dtype_bytes,
        "weight_bytes": shape.weight_bytes,
        "step_bytes": shape.step_bytes,
        "kv_bytes_per_token": shape.kv_bytes_per_token,
        "source": shape.source,
    }
