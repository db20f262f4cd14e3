"""Handing out pages: which are free, and which row holds which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from specbatch.engine.fp8.kv import SCALE, head_bytes
from specbatch.engine.fp8.w8a8 import FP8
from specbatch.engine.graphs.cascade.tiles import PrefixTiles
from specbatch.engine.graphs.decoder import Decoder
from specbatch.engine.graphs.kv.page_allocator import PageAllocator
from specbatch.engine.graphs.kv.page_table import PageTable
from specbatch.engine.graphs.kv.paging import PAGE, Pages
from specbatch.engine.graphs.kv.sliding import SlidingPool
from specbatch.engine.graphs.stage import Stage
from specbatch.engine.host_copies import pinned_copy


def pages_for(positions: int) -> int:
    """Pages that hold so many positions."""
    return -(-positions // PAGE)


def page_bytes(decoder: Decoder, *, sliding: bool | None = None) -> dict[torch.device, int]:
    """Bytes of one page of all layers, by device; or of those alone that have a window, or that have none."""
    heads, width = decoder.page_shape
    each = 2 * heads * PAGE * head_bytes(width, decoder.kv_dtype)
    found: dict[torch.device, int] = {}
    for stage in decoder.stages:
        layers = sum(sliding is None or bool(layer.what.attention.window) is sliding for layer in stage.layers)
        found[stage.device] = found.get(stage.device, 0) + each * layers
    return found


def _of_layers(stage: Stage, pages: Sequence[int], shape: Sequence[int], dtype: torch.dtype) -> list[Tensor]:
    """Of each layer so many pages, and the padding page."""
    return [torch.zeros(count + 1, *shape, dtype=dtype, device=stage.device) for count in pages]


class PagePool:
    """The KV memory of one model, and which slot has which pages of it.

    Slots whose rows begin with the same tokens have the same pages there. Nobody writes to these but the row that fills them, once: a row's
    rounds write behind its keys.

    ample: there are pages for all rows at their longest: a row may have all that it will need as it joins, and its table stays as it is
    sliding: pages of the layers with a window, where they are apart; what is said of pages here is then of the other layers'

    Args:
        decoder: whose stages get their part of the pages.
        pages: how many a row may use, in all.
        slots: rows at once.
        max_positions: the longest row, speculative tokens included.
        cascade: rows may read what they share together.
        sliding: pages of the layers with a window, where they are apart, see window_pages.sliding_pages; 0: they have those of all.
    """

    def __init__(
        self, decoder: Decoder, pages: int, slots: int, max_positions: int, *, cascade: bool = False, sliding: int = 0
    ) -> None:
        heads, width = decoder.page_shape
        self.columns = columns = pages_for(max_positions)
        self.pages = pages
        self.ample = pages >= slots * columns
        self.allocator = PageAllocator(pages)
        self.held: list[list[int]] = [[] for _ in range(slots + 1)]
        self._keys: list[Sequence[bytes]] = [()] * (slots + 1)
        self.table = PageTable(slots, columns, decoder.stages)
        self.sliding = SlidingPool(sliding, slots, columns, decoder.window, decoder.stages) if sliding else None
        self._stages = decoder.stages
        for number, stage in enumerate(decoder.stages):
            counts = [sliding if sliding and layer.what.attention.window else pages for layer in stage.layers]
            shape = heads, PAGE, width
            stage.pages = stage.sliding = None  # frees the old ones first
            keys, values = (_of_layers(stage, counts, shape, decoder.kv_dtype) for _ in range(2))
            scaled = decoder.kv_dtype == FP8
            scales = [_of_layers(stage, counts, shape[:2], SCALE) for _ in range(2)] if scaled else [[], []]
            prefixes = PrefixTiles.unused(slots, stage.device) if cascade else None
            stage.pages = Pages(keys, values, self.table.tables[number], prefixes, *scales)
            if self.sliding is not None:
                stage.sliding = replace(stage.pages, table=self.sliding.table.tables[number], prefixes=None)

    @property
    def free(self) -> int:
        """Pages that no slot holds."""
        return self.allocator.free

    def missing(self, slot: int, positions: int) -> int:
        """Pages that the slot lacks to hold so many positions."""
        return max(0, pages_for(positions) - len(self.held[slot]))

    def join(self, slot: int, keys: Sequence[bytes]) -> None:
        """A row takes the slot, which has no pages yet: its first ones will be those of the keys (see prefix_keys)."""
        if self.sliding is not None:
            there = self.allocator.found(keys)
            shared = self.sliding.join(slot, keys, there)
            keys = keys if shared == there else keys[:shared]  # what it computes again it writes to pages of its own
        self._keys[slot] = keys

    def found(self, keys: Sequence[bytes]) -> int:
        """How many of a row's first keys belong to pages that need not be computed."""
        count = self.allocator.found(keys)
        return count if self.sliding is None else self.sliding.found(keys, count)

    def held_of(self, keys: Sequence[bytes]) -> int:
        """How many of a row's first keys belong to pages that other rows hold, and that it will share, whatever joins before it."""
        count = self.allocator.held(keys)
        return count if self.sliding is None else self.sliding.found(keys, count)

    def grow(self, slot: int, positions: int) -> None:
        """Gives the slot pages for so many positions. The caller has seen to it that there are enough."""
        held, keys, allocator = self.held[slot], self._keys[slot], self.allocator
        for _ in range(self.missing(slot, positions)):
            place = len(held)
            key = keys[place] if place < len(keys) else None
            page = allocator.share(key) if key is not None else None
            if page is None:
                page = allocator.take(key)
            self.table.lines[slot, place] = page
            held.append(page)
            self.table.changed = True

    def reserve(self, wanted: Sequence[tuple[int, int]]) -> bool:
        """Gives every slot pages for so many positions; False, and none of them gets any, where there are not enough for all.

        Args:
            wanted: slot, positions.
        """
        lacking = [(slot, positions) for slot, positions in wanted if positions > PAGE * len(self.held[slot])]
        if sum(self.missing(slot, positions) for slot, positions in lacking) > self.free and not self._suffices(
            lacking
        ):
            return False
        for slot, positions in lacking:
            self.grow(slot, positions)
        return True

    def _suffices(self, lacking: Sequence[tuple[int, int]]) -> bool:
        """Whether there are enough pages since some are shared. Asked in every round where memory is short: quick where nothing is."""
        beginning = [self._keys[slot][0] for slot, _ in lacking if self._keys[slot] and not self.held[slot]]
        if len({*beginning}) == len(beginning) and not any(self.allocator.found([key]) for key in beginning):
            return False
        taken: set[bytes] = set()
        free = self.free
        for slot, positions in lacking:
            keys = self._keys[slot][len(self.held[slot]) : pages_for(positions)]
            free -= self.missing(slot, positions) - len(keys) + self.allocator.cost(keys, taken)
            if free < 0:
                return False
        return True

    def filled(self, slot: int) -> int:
        """Positions from the first on that need not be filled: others have done that, or will before anything of this slot runs."""
        return PAGE * self.allocator.filled(self.held[slot][: len(self._keys[slot])])

    def fill(self, slot: int) -> None:
        """The rest of what the slot's keys stand for is queued to be filled, before anything of other slots that may read it."""
        self.allocator.fill(self.held[slot][: len(self._keys[slot])])

    def findable(self, slots: Sequence[int]) -> list[list[int]]:
        """Of each slot's pages those that others may have, too."""
        return [self.held[slot][: len(self._keys[slot])] for slot in slots]

    def show(self, tiles: Tensor, shared: Tensor) -> None:
        """Brings to the devices which rows of the next batch read shared pages together, in the order of their lanes: see PrefixTiles.

        Args:
            tiles: on the host.
            shared: likewise.
        """
        for stage in self._stages:
            if (prefixes := stage.kv.prefixes) is not None:
                for place, source in ((prefixes.tiles, tiles), (prefixes.shared, shared)):
                    here = pinned_copy(source) if stage.device.type == "cuda" else source
                    stage.lane.run(partial(place.copy_, here, non_blocking=True))

    def evict(self, slot: int) -> None:
        """Takes all pages of a slot back. Rounds in flight may still write to those it had alone: whoever gets them writes later on the same lanes."""
        held, self.held[slot], self._keys[slot] = self.held[slot], [], ()
        self.allocator.release(held)
        self.table.lines[slot, : len(held)] = 0
        self.table.changed = self.table.changed or bool(held)
        if self.sliding is not None:
            self.sliding.evict(slot)

    def forget_all(self) -> None:
        """No page can be found any more: what some hold is not to be trusted."""
        self.allocator.forget_all()
        if self.sliding is not None:
            self.sliding.allocator.forget_all()

    def upload(self) -> None:
        """Brings the stages' tables up to date, in the order of their lanes."""
        self.table.upload()
        if self.sliding is not None:
            self.sliding.table.upload()
