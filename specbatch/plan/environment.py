"""The environment variables that override the spec's placement in the pod.

    TARGET_GPU, DRAFTER_GPU                 devices in the order of the layers: "cuda:0,cuda:1"; replicas apart by ";"
    GPU_STRATEGY                            auto, same, separate or multi_gpu_ratio
    TARGET_GPU_RATIO, DRAFTER_GPU_RATIO     GPUs of one replica for each model

A device is an index among the visible GPUs, never a UUID. A variable that is empty counts as not set.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from specbatch.errors import DeviceError, Problem, SpecError
from specbatch.plan.types import Strategy

VARIABLES = ("TARGET_GPU", "DRAFTER_GPU", "GPU_STRATEGY", "TARGET_GPU_RATIO", "DRAFTER_GPU_RATIO")
_STRATEGIES: tuple[Strategy | Literal["auto"], ...] = ("auto", "same", "separate", "multi_gpu_ratio")

DeviceGroups = tuple[tuple[str, ...], ...]  # of each replica, its devices


@dataclass(frozen=True, slots=True)
class PlacementVariables:
    """What the environment says; None where it says nothing."""

    strategy: Strategy | Literal["auto"] | None = None
    target_ratio: int | None = None
    drafter_ratio: int | None = None
    target: DeviceGroups | None = None
    drafter: DeviceGroups | None = None
    settings: tuple[str, ...] = ()  # "GPU_STRATEGY=same", for people


def read_environment(env: Mapping[str, str], gpus: int, *, has_drafter: bool) -> PlacementVariables:
    """The placement variables of an environment.

    Args:
        env: the process's environment, or any part of it.
        gpus: how many GPUs are visible; 0 is the CPU, where the one device is "cpu".
        has_drafter: whether the spec has a drafter model.

    Raises:
        SpecError: values are malformed or contradict each other or the spec; every problem at once.
        DeviceError: a value names a GPU that is not visible.
    """
    values = {name: env[name].strip() for name in VARIABLES if env.get(name, "").strip()}
    if not values:
        return PlacementVariables()
    problems: list[Problem] = []
    said = values.get("GPU_STRATEGY")
    strategy = next((one for one in _STRATEGIES if one == said), None)
    if said is not None and strategy is None:
        problems.append(Problem("GPU_STRATEGY", f"{said!r} is not a strategy", f"one of {', '.join(_STRATEGIES)}"))
    read = PlacementVariables(
        strategy=strategy,
        target_ratio=_count(values, "TARGET_GPU_RATIO", problems),
        drafter_ratio=_count(values, "DRAFTER_GPU_RATIO", problems),
        target=_groups(values, "TARGET_GPU", gpus, problems),
        drafter=_groups(values, "DRAFTER_GPU", gpus, problems),
        settings=tuple(f"{name}={value}" for name, value in values.items()),
    )
    problems = problems or _contradictions(read)
    if not (problems or has_drafter):
        problems = _without_drafter(read)
    if not (problems or gpus or read.target):
        problems = _on_cpu(read)
    if problems:
        raise SpecError(problems, source="environment")
    return read


def _count(values: Mapping[str, str], name: str, problems: list[Problem]) -> int | None:
    text = values.get(name)
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,4}", text) or int(text) < 1:
        problems.append(Problem(name, f"{text!r} is not a positive whole number", "for example 6"))
        return None
    return int(text)


def _groups(values: Mapping[str, str], name: str, gpus: int, problems: list[Problem]) -> DeviceGroups | None:
    text = values.get(name)
    if text is None:
        return None
    groups = tuple(tuple(part.strip() for part in group.split(",")) for group in text.split(";"))
    wrong = [item for group in groups for item in group if not re.fullmatch(r"cuda:[0-9]{1,4}|cpu", item)]
    if wrong:
        remedy = "write cuda:0,cuda:1 (indices among the visible GPUs, not UUIDs); replicas apart by ';'"
        problems.append(Problem(name, f"{wrong[0]!r} is not a device", remedy))
        return None
    for item in (item for group in groups for item in group):
        index = -1 if item == "cpu" else int(item.removeprefix("cuda:"))
        if index >= gpus or (index == -1) != (gpus == 0):
            there = f"cuda:0 to cuda:{gpus - 1}" if gpus else "cpu"
            raise DeviceError(
                f"names {item}, but the devices of this run are {there}",
                where=name,
                remedy="name visible devices, or change placement.gpus",
            )
    if any(len(set(group)) < len(group) for group in groups):
        problems.append(Problem(name, f"{text!r} names a device twice for one model", "name each device once"))
    if len({len(group) for group in groups}) > 1:
        problems.append(Problem(name, f"{text!r} has replicas of different sizes", "give each the same count"))
    return groups


def _contradictions(read: PlacementVariables) -> list[Problem]:
    problems = []
    if read.drafter is not None and read.target is None:
        problems.append(Problem("DRAFTER_GPU", "is set without TARGET_GPU", "set both, or neither"))
    if read.target is not None and read.drafter is not None and len(read.target) != len(read.drafter):
        said = f"names {len(read.drafter)} replica(s), TARGET_GPU {len(read.target)}"
        problems.append(Problem("DRAFTER_GPU", said, "give both the same number of groups, apart by ';'"))
    for name, ratio, groups in (
        ("TARGET_GPU_RATIO", read.target_ratio, read.target),
        ("DRAFTER_GPU_RATIO", read.drafter_ratio, read.drafter),
    ):
        if ratio is not None and groups is not None and len(groups[0]) != ratio:
            said = f"is {ratio}, but {name.removesuffix('_RATIO')} names {len(groups[0])} device(s)"
            problems.append(Problem(name, said, "leave one of them out"))
        if ratio is not None and read.strategy in {"same", "separate"}:
            said = f"is set, but GPU_STRATEGY is {read.strategy}"
            problems.append(Problem(name, said, "a ratio belongs to multi_gpu_ratio"))
    return problems + _shared_devices(read)


def _shared_devices(read: PlacementVariables) -> list[Problem]:
    """Two replicas on one device: each would plan with all of its memory."""
    owner: dict[str, int] = {}
    for name, groups in (("TARGET_GPU", read.target or ()), ("DRAFTER_GPU", read.drafter or ())):
        for index, group in enumerate(groups):
            for device in group:
                if owner.setdefault(device, index) != index:
                    said = f"{device} stands in two replicas"
                    return [Problem(name, said, "give each replica GPUs of its own")]
    return []


def _without_drafter(read: PlacementVariables) -> list[Problem]:
    """Without a drafter model there is nothing to give GPUs to."""
    set_in_vain = {
        "DRAFTER_GPU": read.drafter is not None,
        "DRAFTER_GPU_RATIO": read.drafter_ratio is not None,
        "GPU_STRATEGY": read.strategy == "separate",
    }
    said, remedy = "is set, but the spec has no drafter model to place", "unset it, or set spec.drafter.model"
    return [Problem(name, said, remedy) for name, vain in set_in_vain.items() if vain]


def _on_cpu(read: PlacementVariables) -> list[Problem]:
    """On the CPU there is nothing to divide."""
    set_in_vain = {
        "GPU_STRATEGY": f"is {read.strategy}" if read.strategy not in {None, "auto", "same"} else "",
        "TARGET_GPU_RATIO": "is set" if read.target_ratio else "",
        "DRAFTER_GPU_RATIO": "is set" if read.drafter_ratio else "",
    }
    remedy = "unset it, or set placement.gpus"
    return [
        Problem(name, f"{said}, but placement.gpus is 0 (the CPU)", remedy)
        for name, said in set_in_vain.items()
        if said
    ]
