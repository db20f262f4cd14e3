"""What stands on each device of a placement: weights, and what a token of KV takes there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from specbatch.plan.plan_request import PlanRequest
from specbatch.plan.reserve import Part
from specbatch.plan.shapes.model_shape import ModelShape
from specbatch.plan.types import DeviceUse, ReplicaPlan, Stage


@dataclass(frozen=True, slots=True)
class Load:
    """What stands on a device.

    Attributes:
        empty: the device with weights, without KV and reserve.
        kv_target: bytes of one token of the target; 0 where nothing of it is there.
        kv_drafter: likewise of the drafter.
        kv_sliding: of kv_target, in layers with a window.
        models: what is there of each.
    """

    empty: DeviceUse
    kv_target: int
    kv_drafter: int
    models: tuple[Part, ...]
    kv_sliding: int = 0

    @property
    def kind(self) -> tuple[object, ...]:
        """What loads of different devices have in common that have the same room."""
        parts = tuple((id(part.shape), part.has_head, part.drafting) for part in self.models)
        return (
            self.empty.memory_bytes,
            self.empty.weight_bytes,
            self.kv_target,
            self.kv_sliding,
            self.kv_drafter,
            parts,
        )


def loads(request: PlanRequest, replicas: Sequence[ReplicaPlan]) -> Iterator[Load]:
    """Of every device that is used, in the order of the GPUs, of replicas that are placed with the KV of one token."""
    shapes = request.models
    placed = [
        (role, shapes[role], stage)
        for replica in replicas
        for role, model in zip(["target", *["drafter"] * len(replica.drafters)], replica.models, strict=True)
        for stage in model.stages
    ]
    for device, gpu in request.gpus.items():
        here = [(role, shape, stage) for role, shape, stage in placed if stage.device == device]
        if here:
            kv = {one: sum(stage.kv_bytes for role, _, stage in here if role == one) for one in ("target", "drafter")}
            weights = sum(stage.weight_bytes for _, _, stage in here)
            yield Load(
                DeviceUse(device, gpu.name, gpu.memory_bytes, weights, kv_bytes=0),
                kv["target"],
                kv["drafter"],
                tuple(Part(shape, stage.has_head, drafting=role == "drafter") for role, shape, stage in here),
                sum(_sliding_bytes(shape, stage) for role, shape, stage in here if role == "target"),
            )


def _sliding_bytes(shape: ModelShape, stage: Stage) -> int:
    return int(shape.sliding_kv(stage.first_layer, stage.last_layer + 1 - stage.first_layer) * shape.kv_number_bytes)
