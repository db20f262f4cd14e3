"""The spec's placement and the environment's variables, made into one request with nothing contradictory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from specbatch.api import SpecBatchJob
from specbatch.errors import Problem
from specbatch.plan.environment import DeviceGroups, PlacementVariables, read_environment, refuse
from specbatch.plan.layouts import SHARES, Layout, Ratio, lay_out, possible_layouts
from specbatch.plan.types import Strategy


@dataclass(frozen=True, slots=True)
class PlacementRequest:
    """The layouts to choose among: the one that spec or environment name, or all that `auto` allows."""

    families: Sequence[Sequence[Layout]]  # the simplest first; within a family only the ratio differs
    variables: tuple[str, ...]  # of the environment, that were set


def placement_request(
    job: SpecBatchJob, devices: Sequence[str], env: Mapping[str, str], *, has_drafter: bool
) -> PlacementRequest:
    """What spec and environment ask for.

    Raises:
        SpecError: the variables are malformed, or contradict each other or the spec.
        DeviceError: there are too few GPUs for what is asked.
    """
    asked = job.spec.placement
    replicas = None if asked.replicas == "auto" else asked.replicas
    read = read_environment(env, asked.gpus, has_drafter=has_drafter)
    if read.target is not None:
        families = [[_named_devices(read, read.target, replicas, has_drafter=has_drafter)]]
    elif asked.gpus == 0:
        # One process has one set of cores: replicas on them would only share what one engine uses whole.
        families = [[lay_out("same", devices, replicas=1, has_drafter=has_drafter)]]
    else:
        ratio = _ratio(job, read, len(devices) // (replicas or 1), has_drafter=has_drafter)
        strategy = read.strategy or ("multi_gpu_ratio" if read.target_ratio or read.drafter_ratio else asked.strategy)
        if strategy == "auto":
            families = list(possible_layouts(devices, replicas=replicas, has_drafter=has_drafter))
        else:
            one = lay_out(strategy, devices, replicas=replicas, ratio=ratio, has_drafter=has_drafter)
            counts = SHARES[ratio[1]] if asked.drafter_replicas == "auto" else [asked.drafter_replicas]
            if strategy == "multi_gpu_ratio" and ratio[1] % counts[-1]:
                said = f"gives the drafter {ratio[1]} GPU(s), which {counts[-1]} drafters (spec.placement.drafterReplicas) cannot share evenly"
                refuse([Problem("DRAFTER_GPU_RATIO", said, f"make it a multiple of {counts[-1]}")])
            families = [[replace(one, drafters=count) for count in counts] if strategy == "multi_gpu_ratio" else [one]]
    return PlacementRequest(families, read.settings)


def _named_devices(
    read: PlacementVariables, target: DeviceGroups, replicas: int | None, *, has_drafter: bool
) -> Layout:
    """The layout of TARGET_GPU and DRAFTER_GPU, and its strategy."""
    drafter = read.drafter or ((),) * len(target)
    strategy: Strategy = "multi_gpu_ratio"
    if len(target[0]) == 1 and drafter[0] in {(), target[0]}:
        strategy = "same"
    elif len(target[0]) == len(drafter[0]) == 1:
        strategy = "separate"
    problems = []
    if has_drafter and not read.drafter:
        remedy = "set both; the same device in both shares it"
        problems.append(Problem("TARGET_GPU", "is set without DRAFTER_GPU", remedy))
    if replicas not in {None, 1, len(target)}:
        said = f"names {len(target)} replica(s), but placement.replicas is {replicas}"
        problems.append(Problem("TARGET_GPU", said, "name the devices of every replica, apart by ';'"))
    if read.strategy not in {None, "auto", strategy} and not problems:
        said = f"is {read.strategy}, but TARGET_GPU and DRAFTER_GPU describe {strategy}"
        problems.append(Problem("GPU_STRATEGY", said, "unset it, or change the devices"))
    refuse(problems)
    return Layout(strategy, tuple(zip(target, drafter, strict=True)), drafters=read.drafters)


def _ratio(job: SpecBatchJob, read: PlacementVariables, each: int, *, has_drafter: bool) -> Ratio:
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
            refuse([Problem("GPU_STRATEGY", "is multi_gpu_ratio, but no ratio is given", remedy)])
        return (spec.target, spec.drafter) if spec else (1, 1)
    target = read.target_ratio or each - (read.drafter_ratio or 0)
    drafter = read.drafter_ratio or each - (read.target_ratio or 0)
    if target < 1 or drafter < 1 or target + drafter > each:
        name = "TARGET_GPU_RATIO" if read.target_ratio else "DRAFTER_GPU_RATIO"
        said = f"gives target {max(target, 0)} + drafter {max(drafter, 0)}, but a replica has {each} GPU(s)"
        refuse([Problem(name, said, "make them add up to the GPUs of one replica")])
    return target, drafter
