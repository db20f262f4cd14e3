"""What was built, held against its plan: where every tensor stands, and the memory of each GPU under a running engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu_lines import GB, Pair
from specbatch.engine.engine import Engine
from specbatch.engine.graphs.runner import GraphModelRunner
from specbatch.plan.device_map import compare_with_actual
from specbatch.plan.types import DeviceUse, ReplicaPlan

_BAR = 0.05  # of weights and KV
COLUMNS = (
    "placement",
    "rows",
    "k",
    "device",
    "weights GB",
    "planned",
    "KV GB",
    "planned",
    "weights + KV",
    "peak GB",
    "planned, with reserve",
    "",
)


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """Bytes on one device; the planned ones are the plan's.

    kv: of all pages that the engine has, the padding page (64 tokens) among them
    kv_compares: whether the engine keeps pages, as the plan of a GPU has it; the general engine keeps slots, and weights alone compare
    peak: what torch has reserved at the most, and what else the driver has given away; None on a CPU
    """

    device: str
    weights: int
    planned_weights: int
    kv: int
    planned_kv: int
    kv_compares: bool
    peak: int | None
    planned_total: int

    @property
    def difference(self) -> float:
        """Of weights and KV, as a share of what is planned."""
        found, planned = self.weights, self.planned_weights
        if self.kv_compares:
            found, planned = found + self.kv, planned + self.planned_kv
        return (found - planned) / max(planned, 1)  # nothing is planned where there are more GPUs than layers

    @property
    def faults(self) -> list[str]:
        """What is not as planned, in words."""
        faults = [f"beyond {_BAR:.0%}"] if abs(self.difference) > _BAR else []
        return faults + (["peak above the plan"] if self.peak is not None and self.peak > self.planned_total else [])

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "difference": self.difference, "faults": self.faults}

    def cells(self) -> list[str]:
        """Under COLUMNS, from the device on."""
        figures = [self.weights, self.planned_weights, self.kv, self.planned_kv]
        peak = "-" if self.peak is None else f"{self.peak / GB:.2f}"
        difference = f"{self.difference:+.2%}" + ("" if self.kv_compares else " (weights alone)")
        cells = [self.device, *(f"{figure / GB:.3f}" for figure in figures), difference, peak]
        return [*cells, f"{self.planned_total / GB:.2f}", ", ".join(self.faults)]


def read_back(pair: Pair, replica: ReplicaPlan, real: Callable[[str], torch.device]) -> tuple[int, list[str]]:
    """How many parameters and buffers the models have, and which of them stand elsewhere than planned, in words.

    Args:
        pair: the models.
        replica: where the plan puts them.
        real: a planned device's place in reality.
    """
    count, differences = 0, []
    for role, placement, model in (
        ("target", replica.target, pair.target),
        ("drafter", replica.drafter, pair.drafter),
        *(("drafter", *alike) for alike in zip(replica.more_drafters, pair.more_drafters, strict=True)),
    ):
        if placement is not None and model is not None:
            where = {module: str(real(device)) for module, device in placement.device_map.items()}
            found = model.placement()
            count += len(found)
            wrong = compare_with_actual(replace(placement, device_map=where), found)
            differences += [f"{role}: {one}" for one in wrong]
    return count, differences


def memory_of(
    pair: Pair, engine: Engine, uses: Sequence[DeviceUse], real: Callable[[str], torch.device]
) -> Iterator[DeviceMemory]:
    """What every planned device holds, right after a line was measured.

    Args:
        pair: the models.
        engine: theirs, with the memory that it has taken.
        uses: the plan's figures; those of planned devices that are one in reality are added up.
        real: a planned device's place in reality.
    """
    models = [model.model for model in (pair.target, pair.drafter, *pair.more_drafters) if model is not None]
    weights = _bytes_by_device(weight for model in models for weight in model.parameters())
    kv = _bytes_by_device(_kv(pair, engine))
    for device in dict.fromkeys(real(use.device) for use in uses):
        here = [use for use in uses if real(use.device) == device]
        yield DeviceMemory(
            device=str(device),
            weights=weights[device],
            planned_weights=sum(use.weight_bytes for use in here),
            kv=kv[device],
            planned_kv=sum(use.kv_bytes for use in here),
            kv_compares=isinstance(engine.runner, GraphModelRunner),
            peak=_peak(device),
            planned_total=sum(use.weight_bytes + use.kv_bytes + use.reserve_bytes for use in here),
        )


def _bytes_by_device(tensors: Iterator[Tensor]) -> Counter[torch.device]:
    found: Counter[torch.device] = Counter()
    for tensor in tensors:
        found[tensor.device] += tensor.nbytes
    return found


def _kv(pair: Pair, engine: Engine) -> Iterator[Tensor]:
    """Keys and values of all layers: the pages of the graphs runner, or the slots of the general one."""
    if isinstance(engine.runner, GraphModelRunner):
        for prefill in (engine.runner.pair.prefill, *engine.runner.pair.drafter.prefills):
            for stage in prefill.decoder.stages:
                yield from (*stage.kv.keys, *stage.kv.values)
        return
    for model in (pair.target, pair.drafter):
        for layer in model.cache.layers if model is not None and model.cache is not None else ():
            if layer.is_initialized:
                yield from (layer.keys, layer.values)


def _peak(device: torch.device) -> int | None:
    if device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(device)
    beyond_torch = total - free - torch.cuda.memory_reserved(device)  # the context, CUDA graphs, other processes
    return torch.cuda.max_memory_reserved(device) + beyond_torch
