"""A model's layers, split over devices in order: the stages, and the module -> device map that transformers loads by.

What a decode step takes on a device is the bytes it reads there. The head is read (3.2 layers' worth in Qwen3-8B), an untied
embedding is only looked up. So the head counts on the device it is on: the last one, or the first when it is tied to the embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from specbatch.errors import ModelError
from specbatch.plan.layouts import Layout
from specbatch.plan.shapes.model_shape import ModelShape
from specbatch.plan.types import GpuShape, ModelPlacement, ReplicaPlan, Stage

_MAY_BE_ABSENT = {"rotary_emb", "lm_head", "embed_out", "decoder"}


def place_replicas(
    layout: Layout,
    target: ModelShape,
    drafter: ModelShape | None,
    kv_tokens: int = 1,
    drafter_kv_tokens: Callable[[Sequence[str]], int] | None = None,
    *,
    sliding_tokens: int = 0,
    gpus: Mapping[str, GpuShape] | None = None,
) -> tuple[ReplicaPlan, ...]:
    """Every replica of a layout, each with KV of so many tokens (of all its rows together), a drafter as many unless it is said otherwise for its devices.

    Of `sliding_tokens`, where given, in the target's layers with a window.
    """
    shapes, replicas = gpus or {}, []
    for of_target, of_drafter in layout.replicas:
        placed = place_model(target, of_target, kv_tokens, shapes, layout.layers, sliding_tokens)
        each = len(of_drafter) // layout.drafters
        parts = [of_drafter[at : at + each] for at in range(0, len(of_drafter), each)] if each else []
        drafters = []
        for part in parts:
            assert drafter is not None, "without a drafter model it has no devices"
            tokens = kv_tokens if drafter_kv_tokens is None else drafter_kv_tokens(part)
            drafters.append(place_model(drafter, part, tokens, shapes))
        replicas.append(ReplicaPlan(placed, drafters[0] if drafters else None, tuple(drafters[1:])))
    return tuple(replicas)


def place_model(
    shape: ModelShape,
    devices: Sequence[str],
    kv_tokens: int = 1,
    gpus: Mapping[str, GpuShape] = MappingProxyType({}),
    layer_counts: Sequence[int] | None = None,
    sliding_tokens: int = 0,
) -> ModelPlacement:
    """One model's placement with KV of so many tokens, in layers with a window of `sliding_tokens` where given, its layers balanced over the devices, which are alike where `gpus` does not tell them apart.

    The rotary embedding is made once, on the first layer's device. The last norm is on the head's device, or on the last layer's
    where the head is tied and stays with the embedding.

    Raises:
        ModelError: several devices for a model whose modules are not known by name: it gets a map of the whole.
    """
    if len(devices) > 1 and shape.eagle3 is not None:
        raise ModelError(
            f"an EAGLE-3 head is one layer, and {len(devices)} GPUs are meant for it",
            where=shape.name,
            remedy="give the drafter one GPU (ratio.drafter: 1), or use strategy same",
        )
    if len(devices) > 1 and not shape.known_layout:
        raise ModelError(
            f"cannot be spread over GPUs: the modules of model type {shape.architecture!r} are not known by name",
            where=shape.name,
            remedy="use strategy same or separate, where every model has one GPU",
        )
    counts = layer_counts or split_layers(shape, len(devices), [gpus[device] for device in devices if device in gpus])
    used = [device for device, count in zip(devices, counts, strict=True) if count]
    head = devices[0 if shape.tied else -1]
    norm = used[-1] if shape.tied else head
    names, (bits, head_bits) = shape.modules, shape.bits
    modules, stages, layer = dict.fromkeys(names.before, devices[0]), [], 0
    for device, count in zip(devices, counts, strict=True):
        layers = shape.layers[layer : layer + count]
        linears = bits * sum(one.params for one in layers)
        linears += head_bits * shape.head if device == head and shape.has_own_head else 0
        params = shape.embedding + shape.before if device == devices[0] else 0
        params += shape.after if device == norm else 0
        kv, sliding = sum(one.kv for one in layers), shape.sliding_kv(layer, count) if sliding_tokens else 0
        stages.append(
            Stage(
                device=device,
                first_layer=layer,
                last_layer=layer + count - 1,
                weight_bytes=int(linears) // 8 + params * shape.dtype_bytes,
                kv_bytes=int(((kv - sliding) * kv_tokens + sliding * sliding_tokens) * shape.kv_number_bytes),
                has_embedding=device == devices[0],
                has_head=device == head,
            )
        )
        modules |= {f"{names.layers}.{number}": device for number in range(layer, layer + count)}
        layer += count
    modules |= dict.fromkeys(names.after, norm) | {names.head: head}
    whole = devices[0] == "cpu" or not shape.known_layout or shape.eagle3 is not None
    return ModelPlacement(
        model=shape.name,
        devices=tuple(devices),
        device_map={"": devices[0]} if whole else modules,
        stages=tuple(stages),
        quantization=shape.quantization,
    )


def split_layers(shape: ModelShape, devices: int, gpus: Sequence[GpuShape] = ()) -> tuple[int, ...]:
    """How many layers each device takes: the slowest device reads as little as can be, and the others evenly.

    Each layer goes to the device that reads least so far. Layers are alike, so that is optimal: no other split has a lower
    maximum or, with that maximum, a lower sum of squares. The head may outweigh a share of the layers: then its device holds it alone.

    GPUs of several products take layers as their bandwidth allows, and no more than their share of the memory: a small one would limit
    the rows of all.
    """
    layer = sum(layer.params for layer in shape.layers) // len(shape.layers)
    read, counts = [0] * devices, [0] * devices
    read[0 if shape.tied else -1] = shape.head + (0 if shape.tied else shape.after)
    stored = list(read)
    mixed = len({(gpu.bandwidth, gpu.memory_bytes) for gpu in gpus}) > 1
    speeds = [gpu.bandwidth / max(gpu.bandwidth for gpu in gpus) for gpu in gpus] if mixed else [1.0] * devices
    shares = [gpu.memory_bytes / max(gpu.memory_bytes for gpu in gpus) for gpu in gpus] if mixed else [1.0] * devices
    if mixed:
        stored[0] += shape.embedding

    for _ in shape.layers:  # to where there is least with one more, in bytes of the fastest or largest GPU
        least = min(
            range(devices),
            key=lambda at: max((read[at] + layer) / speeds[at], (stored[at] + layer) / shares[at]),
        )
        read[least] += layer
        stored[least] += layer
        counts[least] += 1
    return tuple(counts)


def compare_with_actual(placement: ModelPlacement, actual: Mapping[str, str]) -> list[str]:
    """Differences between a plan's device map and the devices read back from the loaded parameters.

    Args:
        placement: what was planned for this model; a device_map of {"": device} is the whole model's.
        actual: module or parameter -> device as loaded, such as "model.layers.0" or "model.layers.0.mlp.up_proj.weight".

    Returns:
        One sentence a difference; empty when everything is where it should be.
    """
    device_map = placement.device_map
    wrong = []
    seen: set[str] = set()
    for name, device in actual.items():
        planned = _longest_prefix(name, device_map)
        if planned is None:
            wrong.append(f"{name} is on {device}, the plan does not name it")
            continue
        seen.add(planned)
        if device_map[planned] != device:
            wrong.append(f"{name} is on {device}, planned for {device_map[planned]}")
    # Modules without parameters (rotary_emb) and a tied head (stored once) may be absent from what was read back.
    absent = [name for name in device_map if name not in seen and name.rpartition(".")[2] not in _MAY_BE_ABSENT]
    wrong += [f"{name} was planned for {device_map[name]}, but nothing of it was loaded" for name in absent]
    return wrong


def _longest_prefix(name: str, device_map: Mapping[str, str]) -> str | None:
    parts = name.split(".")
    prefixes = (".".join(parts[:end]) for end in range(len(parts), -1, -1))
    return next((prefix for prefix in prefixes if prefix in device_map), None)
