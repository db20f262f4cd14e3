"""The ways to divide GPUs between target and drafter, and the layouts that a number of GPUs allows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from specbatch.errors import DeviceError
from specbatch.plan.types import Strategy

Ratio = tuple[int, int]  # GPUs of one replica's target and of its drafter
_MOST_GPUS = 64
# How many drafters may have equal shares of so many GPUs; one first.
SHARES = {gpus: [count for count in range(1, gpus + 1) if gpus % count == 0] or [1] for gpus in range(_MOST_GPUS + 1)}


@dataclass(frozen=True, slots=True)
class Layout:
    """A strategy with devices: of each replica the target's and the drafter's (empty: it has no model).

    Attributes:
        layers: of the target on each of its devices; None: by what they read.
        drafters: of each replica, on equal shares of the drafter's devices; each has groups of rows of its own.
    """

    strategy: Strategy
    replicas: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]
    layers: tuple[int, ...] | None = None
    drafters: int = 1

    @property
    def ratio(self) -> Ratio:
        """Devices of one replica's target, and of its drafter those that are not the target's too."""
        target, drafter = self.replicas[0]
        return len(target), len(set(drafter) - set(target))

    @property
    def devices(self) -> set[str]:
        """Every device that is used."""
        return {device for target, drafter in self.replicas for device in (*target, *drafter)}


def lay_out(
    strategy: Strategy,
    devices: Sequence[str],
    *,
    replicas: int | None = None,
    ratio: Ratio = (1, 1),
    has_drafter: bool = True,
    drafters: int = 1,
) -> Layout:
    """Devices dealt out in order: replica by replica, the target's first.

    Args:
        strategy: which.
        devices: all that there are.
        replicas: how many; None is as many as the devices give.
        ratio: of multi_gpu_ratio, the target's and the drafter's devices in one replica.
        has_drafter: whether there is a drafter model; without one its devices stay idle.
        drafters: see Layout; they divide the drafter's devices.

    Raises:
        DeviceError: there are too few devices.
    """
    for_target, for_drafter = {"same": (1, 0), "separate": (1, 1), "multi_gpu_ratio": ratio}[strategy]
    each = for_target + for_drafter
    count = max(1, len(devices) // each) if replicas is None else replicas
    if count * each > len(devices):
        raise DeviceError(
            f"{count} replica{'s' if count > 1 else ''} of {strategy} needs {count * each} GPUs, there are {len(devices)}",
            where="spec.placement",
            remedy="raise placement.gpus, lower placement.replicas, or choose strategy: auto",
        )
    dealt = []
    for start in range(0, count * each, each):
        mine = tuple(devices[start : start + each])
        of_drafter = mine if strategy == "same" else mine[for_target:]
        dealt.append((mine[:for_target], of_drafter if has_drafter else ()))
    return Layout(strategy, tuple(dealt), drafters=drafters if has_drafter else 1)


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
        strategy: Strategy = "multi_gpu_ratio"
        ratios = [(size - part, part) for part in range(1, size // 2 + 1)]
        if size == 1:
            strategy, ratios = "same", [(1, 0)]
        elif not has_drafter:
            ratios = [(size, 0)]
        elif size == 2:
            strategy = "separate"
        count = total // size if replicas is None else replicas
        yield [
            lay_out(strategy, devices, replicas=count, ratio=ratio, has_drafter=has_drafter, drafters=drafters)
            for ratio in ratios
            for drafters in (SHARES[ratio[1]] if strategy == "multi_gpu_ratio" else [1])
        ]
