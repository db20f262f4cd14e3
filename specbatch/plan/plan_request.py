"""What is to be planned, everything but the layout: the models, the GPUs, and the spec's sizes with every `auto` made a range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from specbatch.api import SpecBatchJob
from specbatch.api.models import DrafterSpec
from specbatch.errors import DeviceError, ModelError
from specbatch.plan.gpus import cpu_shape
from specbatch.plan.shapes.model_shape import ModelShape
from specbatch.plan.types import GpuShape, Speculation

# Most rows that `auto` takes.
_MOST_ROWS_ON_GPU = 512  # beyond it a step is bound by arithmetic, and more rows only wait
_MOST_ROWS_ON_CPU = 8

_MOST_CANDIDATES = 64  # as engine/graphs/mode.py: a larger top-k with a top-p is found by sorting

_ACCEPTANCE = 0.8  # assumed of a drafter model until a run has measured it
_ACCEPTANCE_OF_EAGLE3 = 0.7
_ACCEPTANCE_OF_NGRAM = 0.3


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What is to be planned; no value is `auto`."""

    target: ModelShape
    drafter: ModelShape | None  # None: no drafter, or one without weights
    gpus: Mapping[str, GpuShape]  # device -> its shape
    max_length: int
    speculation: Speculation
    min_rows: int  # the spec's own number; 1 where as many are taken as fit
    max_rows: int  # likewise; of what fits, the most that are taken with the target on one GPU
    acceptance_rate: float
    mean_length: int
    whole_distributions: bool = (
        False  # tokens are drawn from probabilities of the whole vocabulary in memory: most ways need none
    )
    groups: int | None = None  # of rows in flight (placement.microBatches); None: as many as pay
    slowdown: Mapping[str, float] = field(
        default_factory=dict
    )  # role -> times its forwards take what the data sheet allows, as a run has measured; empty: 1
    target_alone: bool = False  # as an alternative to what the spec asks for, which has a drafter model

    @classmethod
    def of(
        cls,
        job: SpecBatchJob,
        target: ModelShape,
        drafter: ModelShape | None,
        gpus: Sequence[GpuShape],
        acceptance_rate: float | None = None,
        mean_length: int | None = None,
    ) -> Self:
        """What a spec asks for; the arguments are those of `make_plan`.

        Raises:
            DeviceError: the GPUs are not as many as the spec needs.
            ModelError: a window or KV in FP8 is asked for of a drafter that has no such choice.
        """
        spec, drawn = job.spec, job.spec.decoding
        sorts = drawn.top_k > _MOST_CANDIDATES and drawn.top_p < 1
        k = spec.decoding.num_speculative_tokens if spec.drafter else 0
        rows = spec.batching.max_sequences
        if acceptance_rate is None:
            ngram = spec.drafter is not None and spec.drafter.method == "ngram"
            of_model = _ACCEPTANCE_OF_EAGLE3 if drafter is not None and drafter.eagle3 is not None else _ACCEPTANCE
            acceptance_rate = _ACCEPTANCE_OF_NGRAM if ngram else of_model
        if drafter is not None and spec.drafter is not None:
            if drafter.eagle3 is not None:
                _refuse_of_head(spec.drafter, drafter)
            drafter = replace(drafter, window=spec.drafter.window)
        asked = spec.drafter.kv_dtype if spec.drafter is not None else "auto"
        general = any(shape.why_general for shape in (target, drafter) if shape is not None)
        if spec.engine.name == "vllm" or (spec.placement.gpus > 0 and not general):  # elsewhere FP8 saves no memory
            target = replace(target, fp8_kv=spec.target.kv_dtype == "fp8")
            drafter = drafter and replace(drafter, fp8_kv=asked == "fp8")
        return cls(
            target=target,
            drafter=drafter,
            gpus=_devices(spec.placement.gpus, gpus),
            max_length=spec.batching.max_length,
            speculation=Speculation(
                spec.decoding.max_speculative_tokens if k == "auto" else k, is_adaptive=k == "auto"
            ),
            min_rows=1 if rows == "auto" else rows,
            max_rows=rows if rows != "auto" else _MOST_ROWS_ON_CPU if spec.placement.gpus == 0 else _MOST_ROWS_ON_GPU,
            acceptance_rate=acceptance_rate,
            mean_length=mean_length or max(1, spec.batching.max_length // 2),
            groups=None if spec.placement.micro_batches == "auto" else spec.placement.micro_batches,
            whole_distributions=drawn.temperature > 0 and (sorts or drawn.acceptance_rule == "rejection"),
        )

    @property
    def models(self) -> dict[str, ModelShape]:
        """Role -> shape of the models that have weights."""
        return {"target": self.target} | ({"drafter": self.drafter} if self.drafter else {})

    @property
    def is_paged(self) -> bool:
        """Whether the graphs runner takes these models: rows share pages of KV, and may be in several groups; else each has a slot, in one group."""
        return "cpu" not in self.gpus and all(shape.why_general is None for shape in self.models.values())

    def most_rows(self, stages: int) -> int:
        """The most rows at once that are taken of what fits, with the target over so many GPUs: each has a group of them at a time."""
        is_auto = self.min_rows < self.max_rows
        return 2 * self.max_rows if is_auto and stages > 1 and self.is_paged else self.max_rows

    def without_drafter(self) -> Self:
        """The target alone on the same GPUs, which leaves room for more rows."""
        return replace(self, drafter=None, speculation=Speculation(0, is_adaptive=False), target_alone=True)


def _refuse_of_head(asked: DrafterSpec, drafter: ModelShape) -> None:
    """What is for draft models alone, of a head that its config.json shows to be one."""
    set_in_vain = {"window": asked.window is not None, "kvDtype": asked.kv_dtype != "auto"}
    for name in (name for name, is_set in set_in_vain.items() if is_set):
        raise ModelError(
            f"drafter.{name} is for draft models, and it is an EAGLE-3 head, which has one layer of KV",
            where=drafter.name,
            remedy=f"leave drafter.{name} out",
        )


def _devices(count: int, gpus: Sequence[GpuShape]) -> dict[str, GpuShape]:
    """The GPUs under their names, cuda:0 first, or the CPU where the count is 0."""
    if count == 0:
        return {"cpu": gpus[0] if gpus and gpus[0].is_cpu else cpu_shape()}
    real = [gpu for gpu in gpus if not gpu.is_cpu]
    if len(real) != count:
        raise DeviceError(
            f"is {count}, but there are {len(real)} GPUs",
            where="spec.placement.gpus",
            remedy=f"set placement.gpus to {len(real)}, or give the process {count} GPUs",
        )
    return {f"cuda:{index}": gpu for index, gpu in enumerate(real)}
