"""The ways to divide GPUs between target and drafter, and the layouts that a number of GPUs allows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from specbatch.errors import DeviceError
from specbatch.plan.placing import Group, Replica
from specbatch.plan.shape import ModelShape
from specbatch.plan.types import Strategy

_SAME: Strategy = "same"
_SEPARATE: Strategy = "separate"
_RATIO: Strategy = "multi_gpu_ratio"


@dataclass(frozen=True, slots=True)
class Layout:
    """A strategy with devices: of each replica the target's and the drafter's (empty: it has no model)."""

    strategy: Strategy
    pairs: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]

    @property
    def target_gpus(self) -> int:
        """Devices of one replica's target."""
        return len(self.pairs[0][0])

    @property
    def drafter_gpus(self) -> int:
        """Devices of one replica's drafter that are not the target's too."""
        return len(set(self.pairs[0][1]) - set(self.pairs[0][0]))

    @property
    def devices(self) -> tuple[str, ...]:
        """Every device that is used, once."""
        return tuple(dict.fromkeys(device for target, drafter in self.pairs for device in (*target, *drafter)))

    def replicas(self, target: ModelShape, drafter: ModelShape | None) -> tuple[Replica, ...]:
        """The layout with its models."""
        return tuple(
            Replica(Group(target, of_target), Group(drafter, of_drafter) if drafter and of_drafter else None)
            for of_target, of_drafter in self.pairs
        )


def lay_out(
    strategy: Strategy,
    devices: Sequence[str],
    *,
    replicas: int | None = None,
    ratio: tuple[int, int] = (1, 1),
    has_drafter: bool = True,
) -> Layout:
    """Devices dealt out in order: replica by replica, the target's first.

    Args:
        strategy: which.
        devices: all that there are.
        replicas: how many; None is as many as the devices give.
        ratio: of multi_gpu_ratio, the target's and the drafter's devices in one replica.
        has_drafter: whether there is a drafter model; without one its devices stay idle.

    Raises:
        DeviceError: there are too few devices.
    """
    for_target, for_drafter = {"same": (1, 0), "separate": (1, 1), "multi_gpu_ratio": ratio}[strategy]
    each = for_target + for_drafter
    count = len(devices) // each if replicas is None else replicas
    if count < 1 or count * each > len(devices):
        wanted = f"{max(count, 1)} replica{'s' if count > 1 else ''} of {strategy}"
        raise DeviceError(
            f"{wanted} needs {max(count, 1) * each} GPUs, there are {len(devices)}",
            where="spec.placement",
            remedy="raise placement.gpus, lower placement.replicas, or choose strategy: auto",
        )
    pairs = []
    for index in range(count):
        mine = tuple(devices[index * each : (index + 1) * each])
        of_drafter = mine if strategy == "same" else mine[for_target:]
        pairs.append((mine[:for_target], of_drafter if has_drafter else ()))
    return Layout(strategy, tuple(pairs))


def possible_layouts(devices: Sequence[str], *, replicas: int | None, has_drafter: bool) -> Iterator[list[Layout]]:
    """Families of layouts, the simplest first; within a family only the ratio differs.

    Args:
        devices: all that there are.
        replicas: how many are asked for: then each has its equal share of the devices, and uses all of it. None leaves it
            open: groups of all sizes, as many as there is room for.
        has_drafter: without a drafter model the target's layers alone are spread.
    """
    total = len(devices)
    counts = range(total, 0, -1) if replicas is None else [replicas]
    for size in sorted({total // count for count in counts}):
        ratios: list[tuple[int, int]]
        if size == 1:
            strategy, ratios = _SAME, [(1, 1)]
        elif not has_drafter:
            strategy, ratios = _RATIO, [(size, 0)]
        elif size == 2:
            strategy, ratios = _SEPARATE, [(1, 1)]
        else:
            strategy, ratios = _RATIO, [(size - part, part) for part in range(1, size // 2 + 1)]
        count = total // size if replicas is None else replicas
        yield [lay_out(strategy, devices, replicas=count, ratio=ratio, has_drafter=has_drafter) for ratio in ratios]
