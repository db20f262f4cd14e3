"""Pages of layers with a window: a row holds those that its next tokens look back on, and lets go of the ones behind.

vLLM's hybrid KV cache manager and SGLang's pool for sliding windows do the same: layers with a window have pages and a table of their own. The kernels
are those of whole rows, since they never read a page behind the window. There are pages for all rows: no row waits for one, or is preempted for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from specbatch.engine.graphs.kv.page_allocator import PageAllocator
from specbatch.engine.graphs.kv.page_table import OnLane, PageTable
from specbatch.engine.graphs.kv.paging import PAGE


class SlidingPool:
    """Which slot has which pages of the layers with a window.

    What rows begin with alike is found by its keys as in PagePool, but of a row's beginning the last pages are enough: those that the first token to be
    computed looks back on. A page with a key that nobody holds stays until memory is needed. Pages are taken where a forward is about to fill
    them, so none is ever pending; rows that join together may want some that another of them is yet to take.

    held: of each slot, by place: page n of a row has the positions from n * PAGE on
    most_held: pages that all slots held together, at the most so far

    Invariant: a slot holds the pages of the places from the first one on that a token looks back on which is yet to be queued. All tokens that
    were queued are before it on the same lanes: whoever gets a page that was let go writes to it later.

    Args:
        pages: in all, see window_pages.sliding_pages.
        slots: rows at once.
        columns: pages of the longest row.
        window: positions that a token sees, its own among them.
        stages: whose layers they are.
    """

    def __init__(self, pages: int, slots: int, columns: int, window: int, stages: Sequence[OnLane]) -> None:
        self.pages, self.columns, self.window = pages, columns, window
        self.allocator = PageAllocator(pages)
        self.table = PageTable(slots, columns, stages)
        self.held: list[dict[int, int]] = [{} for _ in range(slots + 1)]
        self.most_held = 0
        self._keys: list[Sequence[bytes]] = [()] * (slots + 1)
        self._first = [0] * (slots + 1)  # places before are let go
        self._end = [0] * (slots + 1)  # places from here on are not taken yet
        # By key of what rows are about to fill: slot and place of the others that share it.
        self._wanted: dict[bytes, list[tuple[int, int]]] = {}
        self._filling: Sequence[tuple[int, int, int]] = ()

    def found(self, keys: Sequence[bytes], most: int) -> int:
        """Of a row's first `most` pages those that need not be computed: as many as there are with all that the token behind them looks back on."""
        count, place = most, most - 1
        while place >= self._place(count * PAGE):
            if keys[place] not in self._wanted and not self.allocator.found(keys[place : place + 1]):
                count = place
            place -= 1
        return count

    def join(self, slot: int, keys: Sequence[bytes], most: int) -> int:
        """A row takes the slot, and holds what it shares; returns `found`."""
        count = self.found(keys, most)
        self._keys[slot], self._first[slot], self._end[slot] = keys, self._place(count * PAGE), count
        for place in range(self._first[slot], count):
            page = self.allocator.share(keys[place])
            if page is None:
                self._wanted[keys[place]].append((slot, place))
            else:
                self._hold(slot, place, page)
        for key in keys[count:]:
            if not self.allocator.found([key]):
                self._wanted.setdefault(key, [])
        return count

    def prepare(self, stretches: Sequence[tuple[int, int, int]]) -> None:
        """A prefill forward over these stretches is next, or none; the one before is queued.

        Args:
            stretches: slot, first position, position after the last.
        """
        for slot, _, end in self._filling:
            self.let_go(slot, end)
        self._filling = stretches
        for slot, start, end in stretches:
            self.let_go(slot, start)
            self._grow(slot, end)
        self.table.upload()

    def advance(self, rows: Iterable[tuple[int, int, int]]) -> None:
        """A round is next.

        Args:
            rows: slot, position of its first token at the least, positions that it may write.
        """
        for slot, position, positions in rows:
            self.let_go(slot, position)
            self._grow(slot, positions)

    def let_go(self, slot: int, position: int) -> None:
        """No token before that position will be queued again: what lies behind its window is no longer held."""
        first, held = self._place(position), self.held[slot]
        if first <= self._first[slot]:
            return
        for place in range(self._first[slot], min(first, self._end[slot])):
            self.allocator.release([held.pop(place)])
            self.table.lines[slot, place] = 0  # no kernel reads it: the devices' need not follow
        self._first[slot], self._end[slot] = first, max(first, self._end[slot])

    def evict(self, slot: int) -> None:
        """Takes all pages of a slot back, see PagePool.evict."""
        held = self.held[slot]
        self.allocator.release([*held.values()])
        self.table.lines[slot, list(held)] = 0
        self.table.changed = self.table.changed or bool(held)
        held.clear()
        self._keys[slot], self._first[slot], self._end[slot] = (), 0, 0

    def _place(self, position: int) -> int:
        """Of the oldest page that a token at this position looks back on."""
        return max(0, position + 1 - self.window) // PAGE

    def _grow(self, slot: int, positions: int) -> None:
        keys, end = self._keys[slot], min(-(-positions // PAGE), self.columns)
        for place in range(self._end[slot], end):
            key = keys[place] if place < len(keys) and not self.allocator.found(keys[place : place + 1]) else None
            page = self.allocator.take(key)
            self._hold(slot, place, page)
            if key is not None:
                self.allocator.fill([page])
                for other, same in self._wanted.pop(key, ()):
                    self.allocator.share(key)
                    self._hold(other, same, page)
        if end > self._end[slot]:
            self._end[slot] = end
            self.most_held = max(self.most_held, self.pages - self.allocator.free)

    def _hold(self, slot: int, place: int, page: int) -> None:
        self.held[slot][place] = page
        self.table.lines[slot, place] = page
        self.table.changed = True
