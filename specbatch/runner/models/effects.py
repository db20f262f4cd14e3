"""What a spec asks for and the engines that were made for it cannot do: refused before they are loaded, or a warning where it changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from specbatch.api.job import Spec
from specbatch.engine.engine import Engine
from specbatch.engine.general.drafter import ModelDrafter
from specbatch.engine.graphs.runner import GraphModelRunner
from specbatch.errors import Problem, SpecError
from specbatch.plan.types import ReplicaPlan
from specbatch.runner.display import WARNING

_CONVERTS_FP8 = (8, 9)  # compute capability from which a GPU does, and Triton compiles it: Ada, Hopper


def check_fp8_kv(spec: Spec, devices: Sequence[str]) -> None:
    """Refuses keys and values in FP8 on a GPU that does not convert it: the pair would lose its fast path by asking for a faster one.

    Raises:
        SpecError: of each model that asks for it.
    """
    roles = {"target": spec.target.kv_dtype} | ({"drafter": spec.drafter.kv_dtype} if spec.drafter is not None else {})
    old = next(
        (device for device in devices if device != "cpu" and torch.cuda.get_device_capability(device) < _CONVERTS_FP8),
        None,
    )
    asking = [role for role, kv_dtype in roles.items() if kv_dtype == "fp8"]
    if old is None or not asking:
        return
    major, minor = torch.cuda.get_device_capability(old)
    said = f"fp8 needs GPUs of compute capability 8.9 (Ada, Hopper) or newer, and {old} ({torch.cuda.get_device_name(old)}) has {major}.{minor}"
    raise SpecError([Problem(f"spec.{role}.kvDtype", said, "leave it out") for role in asking], source="placement")


def without_effect(spec: Spec, replica: ReplicaPlan, engine: Engine) -> Iterator[str]:
    """Warnings: what is asked for, what is done instead, and why."""
    for said in (_groups(spec, replica, engine), _window(spec, engine), _fp8_kv(spec, engine), _drafters(engine)):
        if said is not None:
            yield f"{WARNING}{said}"


def _groups(spec: Spec, replica: ReplicaPlan, engine: Engine) -> str | None:
    """Groups of rows where nothing could be at work at once; the run has one group then."""
    groups, general = spec.placement.micro_batches, not isinstance(engine.runner, GraphModelRunner)
    if groups in {"auto", 1} or not (general or len(replica.devices) == 1):
        return None
    why = "the general engine runs" if general else f"the pair has one GPU, {replica.devices[0]}"
    return f"spec.placement.microBatches: {groups} asks for groups of rows at work at once, but {why}: the run has one group"


def _window(spec: Spec, engine: Engine) -> str | None:
    """A window where the drafter sees whole rows all the same."""
    window = spec.drafter.window if spec.drafter is not None else None
    if window is None or isinstance(engine.runner, GraphModelRunner):
        return None
    return f"spec.drafter.window: the general engine runs, where a drafter sees whole rows: {window} changes nothing"


def _fp8_kv(spec: Spec, engine: Engine) -> str | None:
    """Keys and values in FP8 where they take as much as ever."""
    roles = [
        role
        for role, one in (("target", spec.target), ("drafter", spec.drafter))
        if one is not None and one.kv_dtype == "fp8"
    ]
    if not roles or isinstance(engine.runner, GraphModelRunner):
        return None
    named = " and ".join(f"spec.{role}.kvDtype" for role in roles)
    return f"{named}: the general engine runs, which rounds keys and values as fp8 does and keeps them in {str(engine.target.model.dtype).removeprefix('torch.')}: the text is the same, no memory is saved"


def _drafters(engine: Engine) -> str | None:
    """More drafters than groups of rows can use."""
    drafter = engine.drafter
    if not isinstance(drafter, ModelDrafter) or len(drafter.models) == engine.runner.drafters:
        return None
    used = engine.runner.drafters
    why = (
        "there are no more groups of rows" if isinstance(engine.runner, GraphModelRunner) else "the general engine runs"
    )
    return f"{len(drafter.models)} drafters are loaded and {used} will draft, since {why}"
