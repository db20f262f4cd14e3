"""What a plan is: frozen values that the runner follows, the manifest records and `specbatch plan` prints.

Plan
├── replicas: ReplicaPlan ...       one engine each, over disjoint GPUs
│   ├── target: ModelPlacement      module -> device, and the same as stages for people
│   └── drafter: ModelPlacement | None
├── devices: DeviceUse ...          what every GPU holds, and what stays free
├── ceiling: Ceiling                predicted tokens/s of all replicas together
├── timeline: Timeline | None       what each GPU of a replica does in a cycle
├── alternatives: Alternative ...   the other placements, with their ceilings
└── recommendation: Recommendation  what to run of the spec
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from specbatch.plan.predicted import Ceiling, Timeline

VERIFIED_TOKENS = 1024  # of a round with an adaptive k, as in engine/graphs/sizes.py
DRIVER = "driver and kernels"  # of DeviceUse.reserve: what is taken before weights and KV
Strategy = Literal["same", "separate", "multi_gpu_ratio"]  # resolved: never "auto"


@dataclass(frozen=True, slots=True)
class GpuShape:
    """One GPU (or the host, as "CPU") as the planner sees it: nominal figures of its data sheet."""

    name: str
    memory_bytes: int
    bandwidth: float  # bytes a second
    flops: float  # dense bf16 operations a second
    remark: str = ""  # what whoever plans for it should know: "has no bfloat16 arithmetic: ..."

    @property
    def is_cpu(self) -> bool:
        """Whether this is the host's own cores and memory."""
        return self.name == "CPU"


@dataclass(frozen=True, slots=True)
class Stage:
    """A pipeline stage, the part of a model on one device: layers first_layer..last_layer, both included.

    A stage without layers (a lone head, or a device left empty) has last_layer == first_layer - 1.
    """

    device: str
    first_layer: int
    last_layer: int
    weight_bytes: int
    kv_bytes: int  # of all rows at max_length, or with pages of what there is room for
    has_embedding: bool
    has_head: bool

    @property
    def num_layers(self) -> int:
        """How many layers are on this device."""
        return self.last_layer - self.first_layer + 1


@dataclass(frozen=True, slots=True)
class ModelPlacement:
    """Where every module of one model goes."""

    model: str
    devices: tuple[str, ...]  # "cuda:0", ... in the order of the layers; ("cpu",) without GPUs
    device_map: Mapping[str, str]  # module -> device, for transformers; {"": "cpu"} without GPUs
    stages: tuple[Stage, ...]  # one for each device
    quantization: str = ""  # made at load: fp8, int8 or int4

    @property
    def weight_bytes(self) -> int:
        """Bytes of all parameters."""
        return sum(stage.weight_bytes for stage in self.stages)

    @property
    def kv_bytes(self) -> int:
        """Bytes of the keys and values of all rows."""
        return sum(stage.kv_bytes for stage in self.stages)


@dataclass(frozen=True, slots=True)
class ReplicaPlan:
    """One copy of the pair: one engine, with its own devices."""

    target: ModelPlacement
    drafter: ModelPlacement | None  # None: target alone, or an n-gram drafter, which has no weights
    more_drafters: tuple[ModelPlacement, ...] = ()  # the same model elsewhere: all draft for groups of rows in turn

    @property
    def drafters(self) -> tuple[ModelPlacement, ...]:
        """Of all drafters; none without a drafter model."""
        return (self.drafter, *self.more_drafters) if self.drafter else ()

    @property
    def models(self) -> tuple[ModelPlacement, ...]:
        """The target's placement, and those of the drafters."""
        return (self.target, *self.drafters)

    @property
    def devices(self) -> tuple[str, ...]:
        """Every device of this replica, once, the target's first."""
        return tuple(dict.fromkeys(device for model in self.models for device in model.devices))


@dataclass(frozen=True, slots=True)
class DeviceUse:
    """What one device holds under the plan; free_bytes below 0 is by how much it does not fit."""

    device: str
    gpu: str
    memory_bytes: int
    weight_bytes: int
    kv_bytes: int
    reserve: Mapping[str, int] = field(default_factory=dict)  # what is kept free of KV, by its use
    rows: int = 0  # at once in its replica, that this device alone would have room for

    @property
    def reserve_bytes(self) -> int:
        """What is kept free of KV, in all."""
        return sum(self.reserve.values())

    @property
    def free_bytes(self) -> int:
        """What stays free; negative where the plan does not fit."""
        return self.memory_bytes - self.weight_bytes - self.kv_bytes - self.reserve_bytes


@dataclass(frozen=True, slots=True)
class Speculation:
    """k, the drafts of a round: fixed, or adaptive up to a most."""

    max_k: int  # the largest, which the cache has room for; 0: nothing is drafted
    is_adaptive: bool  # the engine chooses k by what it measures; else every round drafts max_k tokens

    @property
    def choices(self) -> range:
        """Every k that a round may have."""
        return range(0 if self.is_adaptive else self.max_k, self.max_k + 1)

    def choices_for(self, rows: float) -> list[int]:
        """Of so many rows: an adaptive k stays where the logits of a verification are few, or 0."""
        return [k for k in self.choices if not self.is_adaptive or k == 0 or rows * (k + 1) <= VERIFIED_TOKENS]


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another placement on the same GPUs."""

    strategy: Strategy
    target_gpus: int  # a replica
    drafter_gpus: int  # a replica; 0: shares the target's GPU, or needs none
    replicas: int
    max_sequences: int  # a replica
    fits: bool
    ceiling: Ceiling | None  # None where it does not fit
    chosen: bool = False
    with_drafter: bool = True  # False: the target alone, which leaves room for more rows
    drafters: int = 1  # a replica

    def describe(self) -> str:
        """In words: `8 replicas of same`, `multi_gpu_ratio 6:2`, `the target alone, 4 replicas`."""
        if not self.with_drafter:
            name = "the target alone" if self.target_gpus == 1 else f"the target alone over {self.target_gpus} GPUs"
            return name if self.replicas == 1 else f"{name}, {self.replicas} replicas"
        if self.strategy == "multi_gpu_ratio" and not self.drafter_gpus:
            name = f"multi_gpu_ratio over {self.target_gpus} GPUs"
        elif self.strategy == "multi_gpu_ratio":
            name = f"multi_gpu_ratio {self.target_gpus}:{self.drafter_gpus}"
            name += f" with {self.drafters} drafters" if self.drafters > 1 else ""
        else:
            name = self.strategy
        return name if self.replicas == 1 else f"{self.replicas} replicas of {name}"


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What to run of the spec. Its figures are predictions: ceilings, from data sheets."""

    placement: str | None  # in words; None: nothing fits as asked
    changes: tuple[str, ...]  # what `--set` takes; none: the spec is the best already
    reason: str  # in a sentence or two, with its numbers
    advice: tuple[str, ...] = ()  # sentences: what else decides
    unset: tuple[str, ...] = ()  # variables of the environment that would override the changes
    tokens_per_second: float | None = None  # of all replicas together, at most
    meaning: str = ""  # of the placement, for who does not know its name


@dataclass(frozen=True, slots=True)
class Plan:
    """A resolved placement: nothing in it is `auto` any more.

    `max_sequences` and `max_length` are those of ONE replica's engine. `env_strings` repeats the placement as the override
    variables; set, they give the same plan. `problems` are sentences with what to change; `fits` is whether every
    device has room.
    """

    strategy: Strategy
    replicas: tuple[ReplicaPlan, ...]
    max_sequences: int
    max_length: int
    env_strings: Mapping[str, str]
    fits: bool
    problems: tuple[str, ...]
    devices: tuple[DeviceUse, ...]
    ceiling: Ceiling
    alternatives: tuple[Alternative, ...]
    recommendation: Recommendation
    rows_limit: str = ""  # what limits max_sequences, a sentence; empty where it does not fit
    slot_sequences: int = (
        1  # rows where each has a slot of max_length: of the general engine, if that turns out to be it
    )
    speculation: Speculation = Speculation(0, is_adaptive=False)
    timeline: Timeline | None = None  # of a replica over several devices
    slowdown: Mapping[str, float] = field(
        default_factory=dict
    )  # role -> as measured by a former run; empty: figures are of data sheets
    notes: tuple[str, ...] = ()  # what was assumed or overridden, for people
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # role -> name, params, bytes, source
    refused: str = ""  # what keeps a run from starting, whatever the placement; empty where nothing is known to

    def as_refused(self, why: str, remedy: str) -> Plan:
        """The same, of a run that will not start: it recommends no placement and promises no speed."""
        return replace(self, refused=why, recommendation=Recommendation(None, (), reason=remedy))

    @property
    def kv_reserve(self) -> Mapping[str, int]:
        """Device -> bytes that KV leaves free there once driver and weights are loaded."""
        return {use.device: use.reserve_bytes - use.reserve[DRIVER] for use in self.devices}

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON-able values, for the manifest and `--output json`."""
        data = asdict(self)
        for use, plain in zip(self.devices, data["devices"], strict=True):
            plain |= {"reserve_bytes": use.reserve_bytes, "free_bytes": use.free_bytes}
        return data | {"max_speculative_tokens": self.speculation.max_k}
