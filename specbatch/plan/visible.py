"""How many GPUs a process sees.

CUDA_VISIBLE_DEVICES limits and renumbers: whatever its values are, the process sees cuda:0..n-1. They may be indices, GPU
UUIDs or MIG UUIDs (GPU-..., MIG-..., MIG-GPU-.../1/0), so they are counted and never parsed.
"""

from __future__ import annotations

from specbatch.errors import DeviceError

_NONE = ("", "-1", "NoDevFiles", "none", "void")


def visible_count(cuda_visible_devices: str | None, total: int) -> int:
    """How many of the machine's GPUs are visible.

    Args:
        cuda_visible_devices: the variable's value; None where it is not set, which shows all.
        total: how many the machine has (MIG slices count one each).
    """
    if cuda_visible_devices is None:
        return total
    count = 0
    for value in cuda_visible_devices.split(","):
        if value.strip() in _NONE:  # CUDA ignores what follows a value that names no device
            break
        count += 1
    return min(count, total)


def check_visible(expected: int, visible: int, cuda_visible_devices: str | None = None) -> None:
    """Refuses a count of visible GPUs that is not the spec's, before anything is loaded.

    Args:
        expected: spec.placement.gpus; with 0 (the CPU) any count will do.
        visible: what the process sees.
        cuda_visible_devices: the variable's value, for the message.

    Raises:
        DeviceError: the counts differ.
    """
    if expected in {0, visible}:
        return
    said = "is not set" if cuda_visible_devices is None else f"is {cuda_visible_devices!r}"
    wants = (
        f"spec.placement.gpus is {expected}, but this process sees {visible or 'no'} GPU{'' if visible == 1 else 's'}"
    )
    raise DeviceError(
        f"{wants} (CUDA_VISIBLE_DEVICES {said})",
        where="placement",
        remedy=f"set spec.placement.gpus to {visible}"
        + ("" if visible else " (the CPU)")
        + f", or make {expected} visible: in a pod by its GPU resource, else by CUDA_VISIBLE_DEVICES",
    )
