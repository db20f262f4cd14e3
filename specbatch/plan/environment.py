"""The environment variables that override the spec's placement in the pod.

    TARGET_GPU, DRAFTER_GPU                 devices in the order of the layers: "cuda:0,cuda:1"; replicas apart by ";"; several drafters
                                            of a replica, each for groups of rows of its own, apart by "+": "cuda:6+cuda:7"
    GPU_STRATEGY                            auto, same, separate or multi_gpu_ratio
    TARGET_GPU_RATIO, DRAFTER_GPU_RATIO     GPUs of one replica for each model

A device is an index among the visible GPUs, never a UUID. A variable that is empty counts as not set.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
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
    drafter: DeviceGroups | None = None  # of all drafters of a replica, one after the other
    drafters: int = 1  # of a replica
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
    refuse(_malformed(values))
    ratios, groups = ("TARGET_GPU_RATIO", "DRAFTER_GPU_RATIO"), ("TARGET_GPU", "DRAFTER_GPU")
    target_ratio, drafter_ratio = (int(values[name]) if name in values else None for name in ratios)
    target, drafter = (_groups(name, values[name], gpus) if name in values else None for name in groups)
    read = PlacementVariables(
        strategy=next((one for one in _STRATEGIES if one == values.get("GPU_STRATEGY")), None),
        target_ratio=target_ratio,
        drafter_ratio=drafter_ratio,
        target=target,
        drafter=drafter,
        drafters=max(1, len(drafters_of(values))),
        settings=tuple(f"{name}={value}" for name, value in values.items()),
    )
    refuse(_contradictions(read))
    if not has_drafter:
        refuse(_without_drafter(read))
    if not gpus and not target:
        refuse(_on_cpu(read))
    return read


def refuse(problems: Iterable[Problem]) -> None:
    """Raises a SpecError of the environment where there is any problem."""
    found = list(problems)
    if found:
        raise SpecError(found, source="environment")


def _malformed(values: Mapping[str, str]) -> Iterator[Problem]:
    strategy = values.get("GPU_STRATEGY")
    if strategy not in {None, *_STRATEGIES}:
        yield Problem("GPU_STRATEGY", f"{strategy!r} is not a strategy", f"one of {', '.join(_STRATEGIES)}")
    for name in ("TARGET_GPU_RATIO", "DRAFTER_GPU_RATIO"):
        if name in values and not re.fullmatch(r"(?!0+$)[0-9]{1,4}", values[name]):
            yield Problem(name, f"{values[name]!r} is not a positive whole number", "for example 6")
    for name in ("TARGET_GPU", "DRAFTER_GPU"):
        groups = _split(values[name]) if name in values else ()
        wrong = next((one for group in groups for one in group if not re.fullmatch(r"cuda:[0-9]{1,4}|cpu", one)), None)
        if name == "TARGET_GPU" and "+" in values.get(name, ""):
            yield Problem(name, "has one target in each replica", "write + in DRAFTER_GPU alone; layers apart by ','")
        elif wrong is not None:
            remedy = "write cuda:0,cuda:1 (indices among the visible GPUs, not UUIDs); replicas apart by ';'"
            yield Problem(name, f"{wrong!r} is not a device", remedy)
        elif any(len(set(group)) < len(group) for group in groups):
            yield Problem(name, f"{values[name]!r} names a device twice for one model", "name each device once")
        elif (
            name in values
            and len({len(part.split(",")) for part in re.split("[;+]", values[name])}) > 1
            and "+" in values[name]
        ):
            yield Problem(name, f"{values[name]!r} has drafters of different sizes", "give each the same count")
        elif len({len(group) for group in groups}) > 1:
            yield Problem(name, f"{values[name]!r} has replicas of different sizes", "give each the same count")


def _split(text: str) -> DeviceGroups:
    return tuple(tuple(part.strip() for part in re.split("[,+]", group)) for group in text.split(";"))


def _groups(name: str, text: str, gpus: int) -> DeviceGroups:
    groups = _split(text)
    there = [f"cuda:{index}" for index in range(gpus)] or ["cpu"]
    absent = next((item for group in groups for item in group if item not in there), None)
    if absent:
        raise DeviceError(
            f"names {absent}, but the devices of this run are {' to '.join(dict.fromkeys((there[0], there[-1])))}",
            where=name,
            remedy="name visible devices, or change placement.gpus",
        )
    return groups


def _contradictions(read: PlacementVariables) -> Iterator[Problem]:
    target, drafter = read.target, read.drafter
    if drafter and not target:
        yield Problem("DRAFTER_GPU", "is set without TARGET_GPU", "set both, or neither")
    if target and drafter and len(target) != len(drafter):
        said = f"names {len(drafter)} replica(s), TARGET_GPU {len(target)}"
        yield Problem("DRAFTER_GPU", said, "give both the same number of groups, apart by ';'")
    for name, ratio, groups in (
        ("TARGET_GPU", read.target_ratio, target),
        ("DRAFTER_GPU", read.drafter_ratio, drafter),
    ):
        if ratio and groups and len(groups[0]) != ratio:
            said = f"is {ratio}, but {name} names {len(groups[0])} device(s)"
            yield Problem(f"{name}_RATIO", said, "leave one of them out")
        if ratio and read.strategy in {"same", "separate"}:
            said = f"is set, but GPU_STRATEGY is {read.strategy}"
            yield Problem(f"{name}_RATIO", said, "a ratio belongs to multi_gpu_ratio")
    owner: dict[str, int] = {}  # two replicas on one device would each plan with all of its memory
    for name, groups in (("TARGET_GPU", target or ()), ("DRAFTER_GPU", drafter or ())):
        shared = [
            one for number, group in enumerate(groups) for one in group if owner.setdefault(one, number) != number
        ]
        if shared:
            yield Problem(name, f"{shared[0]} is in two replicas", "give each replica GPUs of its own")
            return


def _without_drafter(read: PlacementVariables) -> Iterator[Problem]:
    """Without a drafter model there is nothing to give GPUs to."""
    set_in_vain = {
        "DRAFTER_GPU": read.drafter,
        "DRAFTER_GPU_RATIO": read.drafter_ratio,
        "GPU_STRATEGY": read.strategy == "separate",
    }
    for name in (name for name, vain in set_in_vain.items() if vain):
        yield Problem(name, "is set, but the spec has no drafter model to place", "unset it, or set spec.drafter.model")


def drafters_of(env: Mapping[str, str]) -> list[list[str]]:
    """The devices of each drafter of the first replica, by DRAFTER_GPU; none where it is not set."""
    first = env.get("DRAFTER_GPU", "").partition(";")[0]
    return [part.split(",") for part in first.split("+")] if first else []


def _on_cpu(read: PlacementVariables) -> Iterator[Problem]:
    """On the CPU there is nothing to divide."""
    remedy = "unset it, or set placement.gpus"
    if read.strategy not in {None, "auto", "same"}:
        yield Problem("GPU_STRATEGY", f"is {read.strategy}, but placement.gpus is 0 (the CPU)", remedy)
    for name, ratio in (("TARGET_GPU_RATIO", read.target_ratio), ("DRAFTER_GPU_RATIO", read.drafter_ratio)):
        if ratio:
            yield Problem(name, "is set, but placement.gpus is 0 (the CPU)", remedy)
