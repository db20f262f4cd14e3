"""What a placement takes of every device, and how many rows fit. What it must leave beside weights and KV: reserve.py."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from specbatch.plan.gpu_products import GIB
from specbatch.plan.model_shape import ModelShape
from specbatch.plan.plan_request import PlanRequest
from specbatch.plan.reserve import Reserving
from specbatch.plan.types import DeviceUse, ReplicaPlan

PAGE = 64  # tokens, as in engine/graphs/paging.py

Models = tuple[tuple[ModelShape, bool], ...]  # with a stage on a device, and whether the head is there


@dataclass(frozen=True, slots=True)
class MemoryFit:
    """The devices of a placement, and rows of which length are to fit on them.

    Attributes:
        loads: every device that is used, in the order of the GPUs: with the KV of one token and without reserve, and the models on it.
        reserving: what is kept free of KV.
        max_length: prompt and new tokens of a row, at the most.
        max_k: drafts a round, at the most.
    """

    loads: tuple[tuple[DeviceUse, Models], ...]
    reserving: Reserving
    max_length: int
    max_k: int

    @property
    def paged(self) -> bool:
        """Whether the rows of a replica share pages of KV, instead of each having a slot for the longest row."""
        return self.reserving.paged

    def kv_tokens(self, rows: int) -> int:
        """Tokens that each replica's KV is for: what all rows need at their longest, or with pages what there is room for."""
        if not self.paged:
            return self._least_tokens(rows)
        room = min(self._free_pages(*load, rows) for load in self.loads)
        return max(PAGE * min(room, rows * self._pages_per_row), self._least_tokens(rows))

    def device_uses(self, rows: int) -> tuple[DeviceUse, ...]:
        """What every device holds with so many rows in each replica."""
        tokens = self.kv_tokens(rows)
        return tuple(self._use(*load, rows, tokens) for load in self.loads)

    def fits(self, rows: int, *, slots: bool = False) -> bool:
        """Whether every device has room for so many rows in each replica.

        Args:
            rows: how many.
            slots: each has a slot for the longest row, as in the general engine, even where there could be pages.
        """
        tokens = self._slot_tokens(rows) if slots else self._least_tokens(rows)
        return all(self._use(*load, rows, tokens, slots=slots).free_bytes >= 0 for load in self.loads)

    def most_rows(self, cap: int, *, slots: bool = False) -> int:
        """The most rows a replica, up to cap, that fit; 0 when not even one does.

        From 16 on it is a multiple of 8, which the GPU's matrix units like.
        """
        rows = largest(lambda rows: self.fits(rows, slots=slots), cap)
        return rows - rows % 8 if 16 <= rows < cap else rows

    @property
    def _pages_per_row(self) -> int:
        """Pages of the longest row: a round writes k drafts and one token more beyond its end."""
        return -(-(self.max_length + self.max_k + 1) // PAGE)

    def _slot_tokens(self, rows: int) -> int:
        """A round writes k drafts and one more token before it knows which of them stay; padding goes to one position more."""
        return rows * (self.max_length + self.max_k + 2)

    def _least_tokens(self, rows: int) -> int:
        """With KV for fewer tokens there are too many rows: of pages each gets half of the longest row's, and one row must go through.

        Few rows are of the longest kind, and those are shorter most of their time. When pages run out the engine preempts rows: no
        token is lost, but they are prefilled again.
        """
        if not self.paged:
            return self._slot_tokens(rows)
        return PAGE * max(self._pages_per_row, rows * -(-self._pages_per_row // 2))

    def _free_pages(self, load: DeviceUse, models: Models, rows: int) -> int:
        free = self._use(load, models, rows, 0).free_bytes
        if free < 0 or not load.kv_bytes:
            return 0 if free < 0 else rows * self._pages_per_row
        return free // (PAGE * load.kv_bytes)

    def _use(self, load: DeviceUse, models: Models, rows: int, tokens: int, *, slots: bool = False) -> DeviceUse:
        """With KV of so many tokens, and what KV must leave free."""
        reserving = replace(self.reserving, paged=False) if slots else self.reserving
        reserve = reserving.parts(load, models, rows, self.max_length)
        return replace(load, kv_bytes=load.kv_bytes * tokens, reserve=reserve)


def memory_fit(request: PlanRequest, replicas: Sequence[ReplicaPlan]) -> MemoryFit:
    """How much memory replicas take that are placed with the KV of one token."""
    shapes = tuple(request.models.values())
    models = [model for replica in replicas for model in zip(shapes, replica.models, strict=True)]
    loads = []
    for device, gpu in request.gpus.items():
        here = [(shape, stage) for shape, placed in models for stage in placed.stages if stage.device == device]
        weights, kv = sum(stage.weight_bytes for _, stage in here), sum(stage.kv_bytes for _, stage in here)
        load = DeviceUse(device, gpu.name, gpu.memory_bytes, weights, kv)
        loads += [(load, tuple((shape, stage.has_head) for shape, stage in here))] if here else []
    return MemoryFit(
        loads=tuple(loads),
        reserving=Reserving(
            paged="cpu" not in request.gpus and all(shape.is_paged for shape in shapes),
            speculation=request.speculation,
            whole_distributions=request.whole_distributions,
        ),
        max_length=request.max_length,
        max_k=request.speculation.max_k,
    )


def largest(fits: Callable[[int], bool], cap: int) -> int:
    """The largest number in 1..cap that fits, where all below one that fits do too; 0 when 1 does not."""
    return bisect_right(range(1, cap + 1), 0, key=lambda number: not fits(number))


def shortages(uses: Sequence[DeviceUse]) -> Iterator[str]:
    """One sentence for each device that lacks room."""
    return (
        f"{use.device} ({use.gpu}) lacks {gib(-use.free_bytes)}: weights {gib(use.weight_bytes)}"
        f" + KV {gib(use.kv_bytes)} + reserve {gib(use.reserve_bytes)} of {gib(use.memory_bytes)}"
        for use in uses
        if use.free_bytes < 0
    )


def gib(count: int) -> str:
    """Bytes for people: "15.3 GiB", or MiB where that is less than a tenth."""
    return f"{count / GIB:.1f} GiB" if abs(count) >= GIB / 10 else f"{count / (1 << 20):.1f} MiB"
