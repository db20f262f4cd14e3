"""Running out of memory on a GPU or a CPU, a GPU that fails, and Python's search for garbage."""

from __future__ import annotations

import gc
import threading
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from specbatch.errors import DeviceError, OutOfMemoryError

# Of allocations that torch's own allocator does not make: the CPU's, a driver's or Triton's, cuBLAS's.
_NO_MEMORY = (
    "DefaultCPUAllocator",
    "CUDA error: out of memory",
    "[CUDA]: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)

_set_aside = threading.Event()  # not told by gc.get_freeze_count(): from Python 3.12 on it counts what never dies, too


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether the error says that an allocation failed; the CPU's allocator raises a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError) or any(sign in str(error) for sign in _NO_MEMORY)


def is_device_fault(error: RuntimeError) -> bool:
    """Whether the GPU itself has failed: nothing can be computed in this process any more."""
    return isinstance(error, torch.AcceleratorError)


def release(device: torch.device) -> None:
    """Gives freed memory back to the device, so that the next allocation finds it in one piece."""
    gc.unfreeze()
    gc.collect()
    if _set_aside.is_set():
        gc.freeze()
    free_cached(device)


def make_room_to_capture(device: torch.device) -> None:
    """Call on the stream of a CUDA graph before it is captured.

    capture_begin gives the random generator tensors of this stream. Where there is no memory for them, what it raises leaves a graph
    whose destructor ends the process (PyTorch 2.11: "The graph should be registered to the state").

    Raises:
        torch.OutOfMemoryError: here it does no harm.
    """
    torch.empty(1, device=device)


@contextmanager
def loaded_set_aside() -> Iterator[None]:
    """Within, Python looks for garbage among new objects only: to look at all that torch and transformers hold takes 0.2 s, and a GPU waits."""
    gc.collect()
    gc.freeze()
    _set_aside.set()
    try:
        yield
    finally:
        _set_aside.clear()
        gc.unfreeze()


def current_device(device: torch.device) -> AbstractContextManager[object]:
    """Within, the GPU is the thread's current device: Triton launches on that one, wherever the tensors are."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def free_cached(device: torch.device) -> None:
    """Gives back what nothing refers to any more, without looking for what only refers to itself."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def out_of_memory(error: RuntimeError) -> str:
    """Why memory ran out.

    Raises:
        DeviceError: the GPU has failed.
        RuntimeError: the error itself, where it is another.
    """
    if is_out_of_memory(error):
        return str(error)
    if is_device_fault(error):
        raise DeviceError(
            f"the device failed: {str(error).splitlines()[0]}",
            remedy="see dmesg and nvidia-smi on the node for Xid errors; finished rows are saved, start again",
        ) from error
    raise error


@contextmanager
def loading_onto(devices: Collection[str], what: str) -> Iterator[None]:
    """Within, memory is taken that there is no smaller choice for; another process may hold it on a GPU that is shared.

    Raises:
        OutOfMemoryError: it is not there.
        DeviceError: a GPU has failed.
    """
    try:
        yield
    except RuntimeError as error:
        shared = "; nvidia-smi shows what other processes hold" if set(devices) != {"cpu"} else ""
        raise OutOfMemoryError(
            f"{what} does not fit on {', '.join(devices)}: {out_of_memory(error).splitlines()[0]}",
            remedy=f"use more GPUs or a smaller model; `specbatch plan` shows what fits{shared}",
        ) from error


def too_little_memory(max_length: int, reason: str) -> OutOfMemoryError:
    """What to say when even one row does not fit."""
    return OutOfMemoryError(
        f"one row of {max_length} tokens at a time does not fit: {reason.splitlines()[0]}",
        remedy="lower spec.batching.maxLength, use a smaller drafter or none, or more GPUs (`specbatch plan`)",
    )
