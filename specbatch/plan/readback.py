"""The placement read back from loaded parameters, compared with the plan."""

from __future__ import annotations

from collections.abc import Mapping

from specbatch.plan.types import ModelPlacement

_MAY_BE_ABSENT = {"rotary_emb", "lm_head", "embed_out", "decoder"}


def compare_with_actual(placement: ModelPlacement, actual: Mapping[str, str]) -> list[str]:
    """Differences between a plan's module map and the devices read back from the loaded parameters.

    Args:
        placement: what was planned for this model; a device_map of {"": device} stands for the whole model.
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
    for end in range(len(parts), -1, -1):
        prefix = ".".join(parts[:end])
        if prefix in device_map:
            return prefix
    return None
