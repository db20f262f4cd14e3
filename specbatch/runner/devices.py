"""The GPUs that this process sees, as the planner wants them."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from specbatch.plan.devices import cpu_shape, visible_gpu_shape
from specbatch.plan.types import GpuShape
from specbatch.plan.visible import check_visible


def visible_gpus(expected: int, env: Mapping[str, str]) -> tuple[GpuShape, ...]:
    """The shapes of cuda:0 ... as torch sees them, or of the CPU where `expected` is 0.

    Raises:
        DeviceError: there are more or fewer than `expected`.
    """
    if expected == 0:
        return (cpu_shape(),)
    count = torch.cuda.device_count()  # CUDA_VISIBLE_DEVICES may hold UUIDs: the driver counts, nobody parses
    check_visible(expected, count, env.get("CUDA_VISIBLE_DEVICES"))
    return tuple(_shape(torch.cuda.get_device_properties(index)) for index in range(count))


def _shape(properties: object) -> GpuShape:
    return visible_gpu_shape(str(getattr(properties, "name")), int(getattr(properties, "total_memory")))  # noqa: B009 - untyped
