"""The GPUs that this process sees, as the planner describes them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch

from specbatch.errors import DeviceError
from specbatch.plan.gpu_products import visible_gpu_shape
from specbatch.plan.gpus import cpu_shape
from specbatch.plan.types import GpuShape


def visible_gpus(expected: int, env: Mapping[str, str]) -> tuple[GpuShape, ...]:
    """The shapes of cuda:0 ... as torch sees them, or of the CPU where `expected` is 0.

    Raises:
        DeviceError: there are more or fewer than `expected`.
    """
    if expected == 0:
        return (measured_cpu(),)
    count = torch.cuda.device_count()  # CUDA_VISIBLE_DEVICES may hold UUIDs: counted by the driver, never parsed
    if count != expected:
        variable = env.get("CUDA_VISIBLE_DEVICES")
        raise DeviceError(
            f"spec.placement.gpus is {expected}, but this process sees {count or 'no'} GPU{'' if count == 1 else 's'}"
            f" (CUDA_VISIBLE_DEVICES {'is not set' if variable is None else f'is {variable!r}'})",
            where="placement",
            remedy=f"set spec.placement.gpus to {count or '0 (the CPU)'}, or make {expected} visible:"
            " in a pod by its GPU resource, else by CUDA_VISIBLE_DEVICES",
        )
    try:  # the count may come from the driver's monitoring library, which works where CUDA does not
        found = [torch.cuda.get_device_properties(index) for index in range(count)]
    except RuntimeError as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].partition(" Please ")[0]
        raise DeviceError(
            f"CUDA does not start: {reason}",
            where=f"torch {torch.__version__}",
            remedy=f"this torch was built for CUDA {torch.version.cuda}: update the node's driver until nvidia-smi shows that version, or use a torch for "
            "an older CUDA (docs/GPU_DEPLOYMENT.md, Driver, CUDA, AMD)",
        ) from error
    for properties in found:
        _check_capability(properties.name, properties.major, properties.minor)
    return tuple(visible_gpu_shape(properties.name, properties.total_memory) for properties in found)


def _check_capability(name: str, major: int, minor: int) -> None:
    """Raises for a GPU that is older than any that this torch has code for: kernels would fail one by one."""
    known = [
        int(arch.removeprefix("sm_")) for arch in torch.cuda.get_arch_list() if arch.removeprefix("sm_").isdecimal()
    ]
    if known and 10 * major + minor < min(known):
        oldest = min(known)
        raise DeviceError(
            f"{name} has compute capability {major}.{minor}, and this torch has code for {oldest // 10}.{oldest % 10} and newer",
            where=f"torch {torch.__version__}",
            remedy="use a newer GPU, or a torch for an older CUDA (docs/GPU_DEPLOYMENT.md, Driver, CUDA, AMD)",
        )


def reserved_mib() -> tuple[int, ...]:
    """What PyTorch's allocator holds of each GPU now: its own counters, which neither wait for the GPU nor ask its driver."""
    if not torch.cuda.is_initialized():
        return ()
    return tuple(torch.cuda.memory_reserved(index) >> 20 for index in range(torch.cuda.device_count()))


_COPY_BYTES = 64 << 20  # beyond the caches of most machines
_PRODUCT = 768  # rows and columns of the measured matrix product
_TIMES = 3


def measured_cpu() -> GpuShape:
    """The host with the bandwidth and arithmetic that this process really has, in about 0.1 s."""
    source, sink = torch.ones(_COPY_BYTES, dtype=torch.uint8), torch.ones(_COPY_BYTES, dtype=torch.uint8)
    matrix = torch.ones(_PRODUCT, _PRODUCT)
    return cpu_shape(
        bandwidth=2 * _COPY_BYTES / _least_seconds(lambda: sink.copy_(source)),  # read and written
        flops=2 * _PRODUCT**3 / _least_seconds(lambda: matrix @ matrix),
    )


def _least_seconds(call: Callable[[], object]) -> float:
    call()  # the first one pages memory in
    seconds = []
    for _ in range(_TIMES):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
