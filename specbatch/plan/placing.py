"""One replica laid out: which devices its models stand on, the stages, and the module maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from specbatch.plan.layers import device_of_ends, module_map, split_layers
from specbatch.plan.shape import ModelShape
from specbatch.plan.types import ModelPlacement, ReplicaPlan, Stage


@dataclass(frozen=True, slots=True)
class Group:
    """One model and the devices that its layers spread over, in order."""

    shape: ModelShape
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Replica:
    """The groups of one pair, before its batch is known."""

    target: Group
    drafter: Group | None

    @property
    def groups(self) -> tuple[Group, ...]:
        """The target's group, and the drafter's where there is one."""
        return (self.target, self.drafter) if self.drafter else (self.target,)

    @property
    def is_paged(self) -> bool:
        """Whether its rows share pages of KV, instead of each having a slot for the longest row."""
        return self.target.devices[0] != "cpu" and all(group.shape.is_paged for group in self.groups)


def place_replica(replica: Replica, tokens: int) -> ReplicaPlan:
    """The replica's placements with KV of so many tokens, over all rows."""
    return ReplicaPlan(
        target=place_model(replica.target, tokens),
        drafter=place_model(replica.drafter, tokens) if replica.drafter else None,
    )


def place_model(group: Group, tokens: int) -> ModelPlacement:
    """One model's placement with KV of so many tokens, balanced over its devices.

    A model whose modules are not known by name gets a map of the whole, which only one device can hold:
    `planner` reports it as a problem where there are more.
    """
    shape, devices = group.shape, group.devices
    counts = split_layers(shape, len(devices))
    whole = devices[0] == "cpu" or not shape.known_layout
    return ModelPlacement(
        model=shape.name,
        devices=devices,
        device_map={"": devices[0]} if whole else module_map(shape, counts, devices),
        stages=_stages(shape, counts, devices, tokens),
    )


def _stages(shape: ModelShape, counts: Sequence[int], devices: Sequence[str], tokens: int) -> tuple[Stage, ...]:
    first, last, head = device_of_ends(shape, counts, devices)
    stages, layer = [], 0
    for device, count in zip(devices, counts, strict=True):
        weights = shape.span_params(layer, count) * shape.dtype_bytes
        weights += shape.embed_bytes + shape.before_bytes if device == first else 0
        weights += shape.norm_bytes if device == last else 0
        weights += shape.head_bytes if device == head and not shape.tied else 0
        stages.append(
            Stage(
                device=device,
                first_layer=layer,
                last_layer=layer + count - 1,
                weight_bytes=weights,
                kv_bytes=shape.span_kv_bytes(layer, count) * tokens,
                has_embedding=device == first,
                has_head=device == head,
            )
        )
        layer += count
    return tuple(stages)
