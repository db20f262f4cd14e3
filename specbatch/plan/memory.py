"""What a placement takes of every device, and how many rows fit. What it must leave beside weights and KV: reserve.py."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from specbatch.plan.gpu_products import GIB
from specbatch.plan.loads import Load, loads
from specbatch.plan.plan_request import PlanRequest
from specbatch.plan.reserve import PREFILL_TOKENS, Reserving
from specbatch.plan.shapes.model_shape import SINKS
from specbatch.plan.types import DeviceUse, ReplicaPlan
from specbatch.window_pages import PAGE, pages_a_row, sliding_pages

MOST_FORCED = 8  # drafts a round without a drafter, as in engine/speculation.py
COUNTED_ROWS = 4096  # up to which it is counted how many a device has room for


@dataclass(frozen=True)
class MemoryFit:
    """The devices of a placement, and rows of which length are to fit on them.

    Attributes:
        loads: every device that is used, in the order of the GPUs.
        reserving: what is kept free of KV.
        max_length: prompt and new tokens of a row, at the most.
        max_k: drafts a round, at the most.
        window: of the drafter, see ModelShape.
        target_window: see ModelShape.largest_window.
        drafters: of a replica, each of which drafts for a share of the rows.
        drafter_of: device -> all devices of the drafter that is there.
    """

    loads: tuple[Load, ...]
    reserving: Reserving
    max_length: int
    max_k: int
    window: int | None = None
    target_window: int = 0
    drafters: int = 1
    drafter_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @cached_property
    def kinds(self) -> Sequence[Load]:
        """The loads, of those that are alike one: those of replicas are."""
        return list({load.kind: load for load in self.loads}.values())

    @property
    def paged(self) -> bool:
        """Whether the rows of a replica share pages of KV, instead of each having a slot for the longest row."""
        return self.reserving.paged

    def kv_tokens(self, rows: int) -> int:
        """Tokens that each replica's KV of the target is for: what all rows need at their longest, or with pages what there is room for."""
        if not self.paged:
            return self._slot_tokens(rows)
        room = min(self._free_pages(load, rows) for load in self.kinds if load.kv_target)
        return max(PAGE * min(room, rows * self._pages_per_row), self._least_tokens(rows))

    def drafter_kv_tokens(self, rows: int, devices: Sequence[str] = ()) -> int:
        """Likewise of the drafter: as many, unless it has devices of its own that hold fewer; of several drafters, that of these devices."""
        if fixed := self._drafter_tokens(rows):
            return fixed
        tokens = self.kv_tokens(rows)
        loads = [load for load in self.loads if load.empty.device in devices] if devices else self.kinds
        apart = [self._free_pages(load, rows) for load in loads if not load.kv_target]
        return max(min([tokens, *(PAGE * pages for pages in apart)]), self._least_tokens(1)) if apart else tokens

    def device_uses(self, rows: int) -> tuple[DeviceUse, ...]:
        """What every device holds with so many rows in each replica."""
        tokens, uses = self.kv_tokens(rows), []
        for load in self.loads:
            of_drafter = self.drafter_kv_tokens(rows, self.drafter_of.get(load.empty.device, ()))
            uses.append(replace(self._use(load, rows, tokens, of_drafter), rows=self.room(load.empty.device)))
        return tuple(uses)

    def room(self, device: str) -> int:
        """Rows of its replica that a device alone would have room for."""
        here = tuple(load for load in self.loads if load.empty.device == device)
        return replace(self, loads=here).most_rows(COUNTED_ROWS)

    def fits(self, rows: int, *, slots: bool = False, all_draft: bool = True) -> bool:
        """Whether every device has room for so many rows in each replica.

        Args:
            rows: how many.
            slots: each has a slot for the longest row, as in the general engine, even where there could be pages.
            all_draft: whether devices of the drafter's own have room for all of them, too; else for one.
        """
        if slots and self.paged:
            return replace(self, reserving=replace(self.reserving, paged=False)).fits(rows)
        tokens = self._least_tokens(rows)
        of_drafter, fixed = (
            self._least_tokens(-(-rows // self.drafters) if all_draft else 1),
            self._drafter_tokens(rows),
        )
        return all(
            self._use(load, rows, tokens, fixed or (tokens if load.kv_target else of_drafter)).free_bytes >= 0
            for load in self.kinds
        )

    def most_rows(self, cap: int, *, slots: bool = False, all_draft: bool = True) -> int:
        """The most rows a replica, up to cap, that fit; 0 when not even one does.

        From 16 on it is a multiple of 8, which the GPU's matrix units like.
        """
        rows = largest(lambda rows: self.fits(rows, slots=slots, all_draft=all_draft), cap)
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

    def _drafter_tokens(self, rows: int) -> int:
        """Tokens that a drafter with a window has KV for, whatever the target has; 0: as many as the target. See windowed.shown_positions."""
        if self.window is None or not self.paged:
            return 0
        positions = SINKS + 2 * self.window + 3 * (self.max_k + 2)
        return rows * PAGE * -(-positions // PAGE) if positions < self.max_length + self.max_k + 1 else 0

    def sliding_tokens(self, rows: int) -> int:
        """Tokens that the target's layers with a window have KV for, whatever the others have; 0: as many as those. See engine/graphs/kv/sliding.py."""
        if not self.paged or rows == 0:
            return 0
        most_k = self.max_k or MOST_FORCED
        return PAGE * sliding_pages(self.target_window, most_k, rows, self._pages_per_row, PREFILL_TOKENS)

    @property
    def sliding_tokens_a_row(self) -> int:
        """Of these, what one row may hold between the forwards of its prefill."""
        return PAGE * pages_a_row(self.target_window, self.max_k or MOST_FORCED)

    def _free_pages(self, load: Load, rows: int) -> int:
        fixed = self._drafter_tokens(rows)
        free = self._use(load, rows, 0, fixed).free_bytes
        each = load.kv_target - (load.kv_sliding if self.sliding_tokens(rows) else 0)
        each += 0 if fixed else load.kv_drafter
        if free < 0 or not each:
            return 0 if free < 0 else rows * self._pages_per_row
        return free // (PAGE * each)

    def _use(self, load: Load, rows: int, tokens: int, of_drafter: int) -> DeviceUse:
        """With KV of so many tokens, and what KV must leave free."""
        sliding = (self.sliding_tokens(rows) or tokens) if load.kv_sliding else 0
        of_target = (load.kv_target - load.kv_sliding) * tokens + load.kv_sliding * sliding
        return replace(
            load.empty,
            kv_bytes=of_target + load.kv_drafter * of_drafter,
            reserve=self.reserving.parts(load.empty, load.models, rows, self.max_length),
        )


def memory_fit(request: PlanRequest, replicas: Sequence[ReplicaPlan]) -> MemoryFit:
    """How much memory replicas take that are placed with the KV of one token."""
    return MemoryFit(
        loads=tuple(loads(request, replicas)),
        reserving=Reserving(
            paged=request.is_paged,
            speculation=request.speculation,
            whole_distributions=request.whole_distributions,
        ),
        max_length=request.max_length,
        max_k=request.speculation.max_k,
        window=request.drafter.window if request.drafter is not None else None,
        target_window=request.target.largest_window,
        drafters=max(1, len(replicas[0].drafters)),
        drafter_of={
            device: drafter.devices
            for replica in replicas
            if replica.more_drafters
            for drafter in replica.drafters
            for device in drafter.devices
        },
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
