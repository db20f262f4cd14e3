"""A contiguous split of a model's layers over devices, balanced by the bytes read a step; and its module map.

What a decode step takes on a device is the bytes it reads there. The head is read (3.2 layers' worth in Qwen3-8B), an untied
embedding is only looked up. So the head counts on the device it stands on: the last one, or the first when it is tied to
the embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from specbatch.plan.shape import ModelShape


def split_layers(shape: ModelShape, devices: int) -> tuple[int, ...]:
    """How many layers each device takes: the slowest device reads as little as can be, and the others evenly.

    Every device gets at least one layer as long as there are enough; the head may outweigh that, so a device that holds
    the head may hold it alone.
    """
    head = shape.head_bytes + (0 if shape.tied else shape.norm_bytes)
    fixed = [0] * devices
    fixed[0 if shape.tied else -1] += head
    return _balanced(shape.num_layers, shape.layer_bytes, tuple(fixed))


@lru_cache(maxsize=1024)
def _balanced(layers: int, layer_bytes: int, fixed: tuple[int, ...]) -> tuple[int, ...]:
    """Counts with the least maximum of fixed[i] + counts[i] * layer_bytes and, among those, the least sum of squares.

    The maximum is settled first; a dynamic program over the devices then finds the evenest split that keeps to it.
    """
    limit = _least_maximum(layers, layer_bytes, fixed)
    # squares[n] = (least sum of squares, counts) over the devices so far; ties go to more layers on earlier devices.
    squares: dict[int, tuple[int, tuple[int, ...]]] = {0: (0, ())}
    for extra in fixed:
        after: dict[int, tuple[int, tuple[int, ...]]] = {}
        for done, (total, counts) in squares.items():
            for count in range(layers - done + 1):
                load = extra + count * layer_bytes
                if count and load > limit:
                    break
                found = (total + load * load, (*counts, count))
                known = after.get(done + count)
                if known is None or (found[0], [-c for c in found[1]]) < (known[0], [-c for c in known[1]]):
                    after[done + count] = found
        squares = after
    return squares[layers][1]


def _least_maximum(layers: int, layer_bytes: int, fixed: Sequence[int]) -> int:
    """The smallest possible load of the most loaded device.

    Layers are alike, so giving each to the device that is least loaded then is optimal.
    """
    loads = list(fixed)
    for _ in range(layers):
        least = min(range(len(loads)), key=lambda i: loads[i])
        loads[least] += layer_bytes
    return max(loads)


def module_map(shape: ModelShape, counts: Sequence[int], devices: Sequence[str]) -> dict[str, str]:
    """Module -> device, explicit for every module of a model named as in Llama, or as was counted.

    The rotary embedding is made once, where the first layer stands; a tied lm_head stays with embed_tokens.
    """
    first, last, head = device_of_ends(shape, counts, devices)
    parts = shape.parts
    before = parts.modules_before if parts else ("model.embed_tokens", "model.rotary_emb")
    prefix = parts.layer_prefix if parts else "model.layers"
    placed = dict.fromkeys(before, first)
    layer = 0
    for device, count in zip(devices, counts, strict=True):
        for _ in range(count):
            placed[f"{prefix}.{layer}"] = device
            layer += 1
    placed |= dict.fromkeys(parts.modules_after if parts else ("model.norm",), last)
    return placed | {parts.head_module if parts else "lm_head": head}


def device_of_ends(shape: ModelShape, counts: Sequence[int], devices: Sequence[str]) -> tuple[str, str, str]:
    """The devices of the embedding, of the last norm, and of the head: with an untied head the last one, else that of the last layer."""
    if not shape.tied:
        return devices[0], devices[-1], devices[-1]
    used = [device for device, count in zip(devices, counts, strict=True) if count]
    return devices[0], used[-1], devices[0]
