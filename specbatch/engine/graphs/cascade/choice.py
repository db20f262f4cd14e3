"""Round by round: whether rows read what they share together, and which of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import torch

from specbatch.engine.graphs.cascade.price import CascadePrice
from specbatch.engine.graphs.cascade.tiles import Tile, lines, most_tiles, plan_tiles
from specbatch.engine.graphs.drafters.windowed import WindowPool
from specbatch.engine.graphs.mode import Mode
from specbatch.engine.graphs.pair import CapturedPair
from specbatch.engine.memory import free_cached

CAPTURE_SECONDS = 0.1  # that the first two rounds of a kind take longer
_CAPTURE_BYTES = 256 << 20  # free, where more is captured
_CAPTURED = float("inf")


@dataclass(frozen=True, slots=True)
class _Seated:
    """Rows of a group, and the tiles of each pool, on the host as PrefixTiles has them."""

    slots: Sequence[int]
    tiles: Sequence[Sequence[Tile]]
    pages: Sequence[Sequence[int]]
    lines: Sequence[tuple[torch.Tensor, torch.Tensor]]


class CascadeChooser:
    """Of rounds of one runner.

    A kind of round is captured once it has been seen to save as much as its capture takes: a run in which few rows share anything, or for a
    short time, pays nothing.

    wanted: True: wherever rows share pages; False: nowhere; None: where it pays

    Args:
        pair: whose attention it is; a draft model that sees a window of its rows has pages of its own.
        wanted: see above.
    """

    def __init__(self, pair: CapturedPair, wanted: bool | None) -> None:
        self.wanted = wanted
        self._device = pair.device
        self._drafter = pair.drafter
        of_drafter = zip(pair.drafter.prefills, pair.drafter.pools, strict=True)
        sharing = [(prefill.decoder, pool) for prefill, pool in of_drafter if not isinstance(pool, WindowPool)]
        self._decoders = [pair.target, *(decoder for decoder, _ in sharing)]
        self._pools = [pair.target_pool, *(pool for _, pool in sharing)]
        self._prices: list[CascadePrice] = []
        self._seated: dict[int, _Seated] = {}  # by group
        self._shown = -1  # the group whose tiles the devices have
        self._owed: dict[Hashable, float] = {}  # seconds that rounds of a kind would have saved, or _CAPTURED

    def price(self, bandwidth: Callable[[], float]) -> None:
        """Learns what reading costs; before that, and on a CPU, nothing pays.

        Args:
            bandwidth: measures that of the GPUs' memory, bytes a second.
        """
        if self.wanted is None and self._device.type == "cuda":
            with suppress(torch.OutOfMemoryError):  # then there is no room for captures, either
                speed = bandwidth()
                self._prices = [CascadePrice.of(decoder, speed) for decoder in self._decoders]
            free_cached(self._device)

    def forget(self) -> None:
        """Slots have other rows from now on, or groups."""
        self._seated.clear()
        self._shown = -1

    def choose(self, mode: Mode, slots: Sequence[int], group: int, rows: int, k: int) -> Mode:
        """The mode of a round: with cascade, then the devices know which rows are in which tile, or as it is.

        Args:
            mode: of its rows.
            slots: of the rows, in their places.
            group: theirs.
            rows: of its bucket.
            k: drafts of a row.
        """
        return replace(mode, cascade=True) if self._chosen(slots, group, k, (rows, k, mode)) else mode

    def _chosen(self, slots: Sequence[int], group: int, k: int, kind: Hashable) -> bool:
        shared = self._pools[0].allocator.repeated
        if not shared or self.wanted is False:
            return False
        if self.wanted is None and not (self._prices and self._prices[0].at_most(shared) > 0):
            return False
        seated = self._seat(slots, group)
        if not seated.tiles[0] or (self.wanted is None and not self._pays(seated, k, group, kind)):
            return False
        if self._shown != group:
            self._shown = group
            for pool, shown in zip(self._pools, seated.lines, strict=True):
                pool.show(*shown)
        return True

    def _seat(self, slots: Sequence[int], group: int) -> _Seated:
        seated = self._seated.get(group)
        if seated is None or seated.slots != slots:
            tiles = [plan_tiles(pool.findable(slots), most_tiles(len(slots))) for pool in self._pools]
            pages = [[len(pool.held[slot]) for slot in slots] for pool in self._pools]
            shown = [lines(of, slots, len(pool.held) - 1) for of, pool in zip(tiles, self._pools, strict=True)]
            self._seated[group] = seated = _Seated(list(slots), tiles, pages, shown)
            if self._shown == group:
                self._shown = -1
        return seated

    def _pays(self, seated: _Seated, k: int, group: int, kind: Hashable) -> bool:
        saved = self._saved(seated, k, group)
        if saved <= 0:
            return False
        owed = self._owed[kind] = self._owed.get(kind, 0.0) + saved
        if owed == _CAPTURED:
            return True
        if owed < CAPTURE_SECONDS:
            return False
        if self._device.type == "cuda" and torch.cuda.mem_get_info(self._device)[0] < _CAPTURE_BYTES:
            self._owed[kind] = 0.0
            return False
        self._owed[kind] = _CAPTURED
        return True

    def _saved(self, seated: _Seated, k: int, group: int) -> float:
        """Seconds of a round: of the target's forward, and of the k of the group's draft model."""
        seconds, drafting = 0.0, self._drafter.pools_of(group)
        for pool, price, tiles, pages in zip(self._pools, self._prices, seated.tiles, seated.pages, strict=True):
            times, queries = (1, k + 1) if pool is self._pools[0] else (k if pool in drafting else 0, 1)
            seconds += times * price.saved(tiles, pages, queries) if times else 0.0
        return seconds
