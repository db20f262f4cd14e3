"""The engines of a run once they are ready, and what the run records of them: the same for every kind of engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from specbatch.engine.engine import Engine
from specbatch.engine.make_engine import describe
from specbatch.engine.stats import EngineStats
from specbatch.runner.ceiling import CeilingOfRun
from specbatch.runner.devices import reserved_mib
from specbatch.runner.inputs import RunInputs
from specbatch.runner.models.load import load_engines, placements_of
from specbatch.runner.replicas import EngineProtocol
from specbatch.runner.vllm.installation import load_vllm


@dataclass(frozen=True, slots=True)
class EngineSet:
    """One engine a replica.

    description: which engine, in words
    eos_token_ids: of the target
    dtype: that it computes in
    placement: role (with its replica where there are several) -> part of the model -> device, as read back
    gpu_mib: what is held of each GPU now; empty where that is not known
    ceiling: the predicted tokens per second of the rows so far; None where none is predicted
    scores: makes what gives the target's scores, for `verify`; None where the engine's own target does
    """

    engines: list[EngineProtocol]
    description: str
    eos_token_ids: frozenset[int]
    dtype: torch.dtype
    placement: Mapping[str, Mapping[str, str]]
    gpu_mib: Callable[[], tuple[int, ...]] = tuple
    ceiling: Callable[[EngineStats], float | None] = lambda _stats: None
    scores: Callable[[], Any] | None = None


def ready_engines(inputs: RunInputs, say: Callable[[str], None], *, scoring: bool = False) -> EngineSet:
    """Loads the engines that a run has chosen, one a replica.

    Args:
        inputs: of the run.
        say: shows a line of what is going on.
        scoring: whether its `scores` will be asked for.

    Raises:
        SpecError: the engine does not know an option.
        ModelError, DeviceError, OutOfMemoryError: as `load_engines`.
    """
    if inputs.engine.name != "native" or inputs.engine.remedy:
        say(str(inputs.engine))
    if inputs.engine.name == "vllm":
        return load_vllm(inputs, say, scoring=scoring)
    for role, shape in inputs.request.models.items() if "cpu" in inputs.request.gpus else ():
        if shape.widened:
            say(f"{role} {shape.name}: {shape.widened}")
    return native_set(load_engines(inputs.spec, inputs.pair, inputs.plan, say), inputs)


def native_set(engines: list[Engine], inputs: RunInputs) -> EngineSet:
    """Of specbatch's own engines."""
    return EngineSet(
        [*engines],
        describe(engines[0]),
        engines[0].target.eos_token_ids,
        engines[0].target.model.dtype,
        placements_of(engines),
        reserved_mib,
        CeilingOfRun(inputs.plan, inputs.request),
    )
