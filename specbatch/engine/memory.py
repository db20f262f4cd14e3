"""Running out of memory on a GPU or a CPU, and a GPU that fails."""

from __future__ import annotations

import gc

import torch


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether the error says that an allocation failed; the CPU's allocator raises a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def is_device_fault(error: RuntimeError) -> bool:
    """Whether the GPU itself has failed: nothing can be computed in this process any more."""
    return isinstance(error, torch.AcceleratorError)


def release(device: torch.device) -> None:
    """Gives freed memory back to the device, so that the next allocation finds it in one piece."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
