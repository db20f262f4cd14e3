"""Handing out pages: which are free, and which row holds which."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from specbatch.engine.graphs.decoder import Decoder
from specbatch.engine.graphs.paging import PAGE, Pages


def pages_for(positions: int) -> int:
    """Pages that hold so many positions."""
    return -(-positions // PAGE)


def page_bytes(decoder: Decoder) -> dict[torch.device, int]:
    """Bytes of one page of all layers, by device."""
    heads, width = decoder.page_shape
    each = 2 * heads * width * PAGE * decoder.dtype.itemsize
    found: dict[torch.device, int] = {}
    for stage in decoder.stages:
        found[stage.device] = found.get(stage.device, 0) + each * len(stage.layers)
    return found


class PagePool:
    """The KV memory of one model, and the free list over it.

    Invariant: a page is free, or in exactly one slot's list; page 0 is neither.

    ample: there are pages for all rows at their longest: a row may have all that it will need as it joins, and its table stays as it is

    Args:
        decoder: whose stages get their part of the pages.
        pages: how many a row may use, in all.
        slots: rows at once.
        max_positions: the longest row, speculative tokens included.
    """

    def __init__(self, decoder: Decoder, pages: int, slots: int, max_positions: int) -> None:
        heads, width = decoder.page_shape
        columns = pages_for(max_positions)
        self.pages = pages
        self.ample = pages >= slots * columns
        self.held: list[list[int]] = [[] for _ in range(slots + 1)]
        self._free = list(range(pages, 0, -1))
        self._table = torch.zeros(slots + 1, columns, dtype=torch.int32)  # the host's, which fills the devices'
        self._lines = self._table.numpy()  # the same memory: 20 times as fast to write a page to
        self._changed = False
        self._stages = decoder.stages
        for stage in decoder.stages:
            shape = (pages + 1, heads, PAGE, width)
            stage.pages = None  # frees the old ones first
            keys = [torch.zeros(shape, dtype=decoder.dtype, device=stage.device) for _ in stage.layers]
            values = [torch.zeros(shape, dtype=decoder.dtype, device=stage.device) for _ in stage.layers]
            table = torch.zeros(slots + 1, columns, dtype=torch.int32, device=stage.device)
            stage.pages = Pages(keys, values, table)

    @property
    def free(self) -> int:
        """Pages that no slot holds."""
        return len(self._free)

    def missing(self, slot: int, positions: int) -> int:
        """Pages that the slot lacks to hold so many positions."""
        return max(0, pages_for(positions) - len(self.held[slot]))

    def grow(self, slot: int, positions: int) -> None:
        """Gives the slot pages for so many positions. The caller has seen to it that there are enough."""
        held = self.held[slot]
        for _ in range(self.missing(slot, positions)):
            self._lines[slot, len(held)] = page = self._free.pop()
            held.append(page)
            self._changed = True

    def reserve(self, wanted: Sequence[tuple[int, int]]) -> bool:
        """Gives every slot pages for so many positions; False, and none of them gets any, where there are not enough for all.

        Args:
            wanted: slot, positions.
        """
        lacking = [(slot, positions) for slot, positions in wanted if positions > PAGE * len(self.held[slot])]
        if sum(self.missing(slot, positions) for slot, positions in lacking) > self.free:
            return False
        for slot, positions in lacking:
            self.grow(slot, positions)
        return True

    def evict(self, slot: int) -> None:
        """Takes all pages of a slot back. Rounds in flight may still write to them: whoever gets them writes later on the same lanes."""
        held, self.held[slot] = self.held[slot], []
        self._free.extend(reversed(held))
        self._lines[slot, : len(held)] = 0
        self._changed = self._changed or bool(held)

    def upload(self) -> None:
        """Brings the stages' tables up to date, in the order of their lanes."""
        if not self._changed:
            return
        self._changed = False
        source = self._table.pin_memory() if self._stages[0].device.type == "cuda" else self._table.clone()
        for stage in self._stages:
            stage.lane.run(partial(stage.kv.table.copy_, source, non_blocking=True))
