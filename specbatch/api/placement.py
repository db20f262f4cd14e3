"""Which GPUs hold what."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from specbatch.api.base import SpecModel

Strategy = Literal["auto", "same", "separate", "multi_gpu_ratio"]
PositiveOrAuto = Annotated[int, Field(ge=1, le=1024)] | Literal["auto"]


class RatioSpec(SpecModel):
    """How multi_gpu_ratio divides the GPUs of one replica."""

    target: int = Field(
        ge=1, le=64, description="The number of GPUs that the target's layers are spread over.", examples=[6]
    )
    drafter: int = Field(
        ge=1,
        le=64,
        description="The number of GPUs, next after the target's, that the drafter's layers are spread over, or that drafters are on: see drafterReplicas.",
        examples=[2],
    )


class PlacementSpec(SpecModel):
    """Which GPUs hold what, in one pod or on this machine. `specbatch plan FILE` shows the outcome before anything runs."""

    gpus: int = Field(
        default=1,
        ge=0,
        le=64,
        description="The number of GPUs in one pod, or used on this machine. 0 runs on the CPU.",
        examples=[8],
    )
    strategy: Strategy = Field(
        default="auto",
        description="How the pair lies on the GPUs of a replica. same: target and drafter share one GPU. separate: the target on one GPU, the drafter on the next. multi_gpu_ratio: the "
        "target's layers spread over the first ratio.target GPUs, the drafter's over the next ratio.drafter. auto: the planner chooses the fastest that fits, and "
        "spreads a target without a drafter model over the GPUs of a replica where one GPU cannot hold it.",
        examples=["same"],
    )
    ratio: RatioSpec | None = Field(
        default=None,
        description="The division of GPUs for strategy multi_gpu_ratio: required there, refused elsewhere. ratio.target + ratio.drafter must be gpus / replicas.",
        examples=[{"target": 6, "drafter": 2}],
    )
    replicas: PositiveOrAuto = Field(
        default="auto",
        description="Independent copies of the pair over disjoint GPUs, fed from one queue of rows. auto: as many as the GPUs and the strategy "
        "give (same: one a GPU, separate: one for two GPUs, multi_gpu_ratio: gpus / (ratio.target + ratio.drafter)).",
        examples=[8],
    )
    drafter_replicas: PositiveOrAuto = Field(
        default="auto",
        description="The number of drafters in each replica of multi_gpu_ratio, on equal shares of the ratio.drafter GPUs: each drafts for groups of rows of its own (microBatches). "
        "1: one drafter, its layers spread over these GPUs. auto: what is predicted to be faster, a whole drafter on each GPU or one over several. No row's text depends on it.",
        examples=[2],
    )
    micro_batches: PositiveOrAuto = Field(
        default="auto",
        description="The number of groups of rows that a replica spread over several GPUs has in flight: while the target verifies one, the drafter drafts for another. auto: as "
        "many as pay by the step times measured at warm-up; 1 where everything is on one GPU, or the general engine runs. No row's text depends on it.",
        examples=[2],
    )
    cpu_threads: PositiveOrAuto = Field(
        default="auto",
        description="The number of threads for work on the CPU. auto: the CPUs that this process may use; one "
        "for a model so small that several would only wait for each other.",
        examples=[4],
    )
