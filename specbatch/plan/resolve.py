"""The spec's placement and the environment's overrides, made into one request with nothing contradictory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from specbatch.api import SpecBatchJob
from specbatch.errors import Problem, SpecError
from specbatch.plan.overrides import Overrides, read_overrides
from specbatch.plan.strategy import Layout, lay_out
from specbatch.plan.types import Strategy


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for: a layout that is settled, or the freedom to choose one."""

    layout: Layout | None  # None: the planner chooses
    replicas: int | None  # None: as many as fit; of meaning where the planner chooses
    said: tuple[str, ...]  # the overrides that were set


def resolve(job: SpecBatchJob, devices: Sequence[str], env: Mapping[str, str], *, has_drafter: bool) -> Wanted:
    """What spec and environment ask for.

    Raises:
        SpecError: the overrides are malformed, or contradict each other or the spec.
        DeviceError: there are too few GPUs for what is asked.
    """
    placement = job.spec.placement
    on_cpu = devices[0] == "cpu"
    read = read_overrides(env, 0 if on_cpu else len(devices))
    if not has_drafter:
        _refuse_drafter_variables(read)
    replicas = None if placement.replicas == "auto" else placement.replicas
    if read.target is not None:
        return Wanted(_explicit(read, replicas, has_drafter=has_drafter), replicas, read.said)
    if on_cpu:
        _refuse_gpu_variables(read)
        # One process has one set of cores: replicas on them would only share what one engine uses whole.
        return Wanted(lay_out("same", devices, replicas=1, has_drafter=has_drafter), 1, read.said)
    ratio = _ratio(job, read, len(devices) // (replicas or 1), has_drafter=has_drafter)
    strategy = read.strategy or ("multi_gpu_ratio" if read.target_ratio or read.drafter_ratio else placement.strategy)
    if strategy == "same":
        return Wanted(lay_out("same", devices, replicas=replicas, has_drafter=has_drafter), replicas, read.said)
    if strategy == "separate":
        return Wanted(lay_out("separate", devices, replicas=replicas, has_drafter=has_drafter), replicas, read.said)
    if strategy == "multi_gpu_ratio":
        layout = lay_out("multi_gpu_ratio", devices, replicas=replicas, ratio=ratio, has_drafter=has_drafter)
        return Wanted(layout, replicas, read.said)
    return Wanted(None, replicas, read.said)


def _refuse_drafter_variables(read: Overrides) -> None:
    """Without a drafter model there is nothing to give GPUs to."""
    set_in_vain = {
        "DRAFTER_GPU": read.drafter is not None,
        "DRAFTER_GPU_RATIO": read.drafter_ratio is not None,
        "GPU_STRATEGY": read.strategy == "separate",
    }
    problems = [
        Problem(name, "is set, but the spec has no drafter model to place", "unset it, or set spec.drafter.model")
        for name, vain in set_in_vain.items()
        if vain
    ]
    if problems:
        raise SpecError(problems, source="environment")


def _refuse_gpu_variables(read: Overrides) -> None:
    """On the CPU there is nothing to divide."""
    problems = []
    if read.strategy not in {None, "auto", "same"}:
        remedy = "unset it, or set placement.gpus"
        problems.append(Problem("GPU_STRATEGY", f"is {read.strategy}, but placement.gpus is 0 (the CPU)", remedy))
    for name, ratio in (("TARGET_GPU_RATIO", read.target_ratio), ("DRAFTER_GPU_RATIO", read.drafter_ratio)):
        if ratio is not None:
            problems.append(
                Problem(name, "is set, but placement.gpus is 0 (the CPU)", "unset it, or set placement.gpus")
            )
    if problems:
        raise SpecError(problems, source="environment")


def _explicit(read: Overrides, replicas: int | None, *, has_drafter: bool) -> Layout:
    """The layout of TARGET_GPU and DRAFTER_GPU, and its name."""
    assert read.target is not None
    problems = []
    if has_drafter and read.drafter is None:
        problems.append(
            Problem("TARGET_GPU", "is set without DRAFTER_GPU", "set both; the same device in both shares it")
        )
    if replicas not in {None, 1, len(read.target)}:
        said = f"names {len(read.target)} replica(s), but placement.replicas is {replicas}"
        problems.append(Problem("TARGET_GPU", said, "name the devices of every replica, apart by ';'"))
    drafter = read.drafter or ((),) * len(read.target)
    name = _name_of(read.target[0], drafter[0])
    if read.strategy not in {None, "auto", name} and not problems:
        said = f"is {read.strategy}, but TARGET_GPU and DRAFTER_GPU describe {name}"
        problems.append(Problem("GPU_STRATEGY", said, "unset it, or change the devices"))
    if problems:
        raise SpecError(problems, source="environment")
    return Layout(name, tuple(zip(read.target, drafter, strict=True)))


def _name_of(target: Sequence[str], drafter: Sequence[str]) -> Strategy:
    if len(target) == 1 and (not drafter or tuple(drafter) == tuple(target)):
        return "same"
    if len(target) == 1 and len(drafter) == 1:
        return "separate"
    return "multi_gpu_ratio"


def _ratio(job: SpecBatchJob, read: Overrides, each: int, *, has_drafter: bool) -> tuple[int, int]:
    """The ratio of the spec, or the environment's; a half that the environment leaves out is the rest of a replica's GPUs.

    Args:
        job: the spec.
        read: the environment.
        each: GPUs of one replica.
        has_drafter: without a drafter model its half is 0.
    """
    spec = job.spec.placement.ratio
    if not has_drafter:
        return read.target_ratio or each, 0
    if read.target_ratio is None and read.drafter_ratio is None:
        if spec is None and read.strategy == "multi_gpu_ratio":
            remedy = "set TARGET_GPU_RATIO and DRAFTER_GPU_RATIO, or spec.placement.ratio"
            raise SpecError(
                [Problem("GPU_STRATEGY", "is multi_gpu_ratio, but no ratio is given", remedy)], source="environment"
            )
        return (spec.target, spec.drafter) if spec else (1, 1)
    target = read.target_ratio or each - (read.drafter_ratio or 0)
    drafter = read.drafter_ratio or each - (read.target_ratio or 0)
    name = "TARGET_GPU_RATIO" if read.target_ratio else "DRAFTER_GPU_RATIO"
    if target < 1 or drafter < 1 or target + drafter > each:
        said = f"gives target {max(target, 0)} + drafter {max(drafter, 0)}, but a replica has {each} GPU(s)"
        raise SpecError([Problem(name, said, "make them add up to the GPUs of one replica")], source="environment")
    return target, drafter
