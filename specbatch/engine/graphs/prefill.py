"""Bringing rows' tokens into the pages: stretches of many rows packed into forwards of a few sizes, nothing padded but their ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor

from specbatch.engine.graphs.cuda_graphs import Capture, CudaGraphRunner
from specbatch.engine.graphs.decoder import Decoder
from specbatch.engine.graphs.drafters.head import PackedHead
from specbatch.engine.graphs.kv.paging import TILE, Tiles
from specbatch.engine.graphs.kv.sliding import SlidingPool
from specbatch.engine.graphs.stage import PackedAt
from specbatch.engine.graphs.state import RowState
from specbatch.engine.graphs.taps import Taps
from specbatch.engine.host_copies import upload

_ROWS = 128  # stretches in one forward, at the most


@dataclass(slots=True)
class Pack:
    """What one forward takes: stretches (slot, start, end) of rows, their tokens one after the other."""

    stretches: list[tuple[int, int, int]] = field(default_factory=list)
    tokens: int = 0


def pack(stretches: Sequence[tuple[int, int, int]], chunk: int) -> Iterator[Pack]:
    """Fills forwards of up to `chunk` tokens with the stretches in their order; one that does not fit is cut.

    Args:
        stretches: (slot, first position, position after the last).
        chunk: tokens.
    """
    current = Pack()
    for slot, start, end in stretches:
        first = start
        while first < end:
            count = min(end - first, chunk - current.tokens)
            current.stretches.append((slot, first, first + count))
            current.tokens += count
            first += count
            if current.tokens == chunk or len(current.stretches) == _ROWS:
                yield current
                current = Pack()
    if current.tokens:
        yield current


def sizes(chunk: int) -> list[int]:
    """The sizes of forwards: little is padded, and few are captured: multiples of an eighth to a quarter of themselves, of TILE at least."""
    steps = ((512, TILE), (1024, 128), (2048, 256), (chunk, 512))
    found: list[int] = []
    for end, step in steps:
        found += range((found[-1] if found else 0) + step, min(end, chunk) + 1, step)
    return sorted({*found, chunk})


class Prefill:
    """Packed prefill of one model.

    Args:
        decoder: whose pages are filled.
        state: holds the rows' tokens, of the lane where forwards begin.
        graphs: of captured steps.
        chunk: tokens in one forward, at the most.
        head: takes in what the forwards show, where there is one.
    """

    def __init__(
        self, decoder: Decoder, state: RowState, graphs: CudaGraphRunner, chunk: int, head: PackedHead | None = None
    ) -> None:
        self.decoder = decoder
        self.head = head
        self.state = state
        self.graphs = graphs
        self.chunk = chunk = min(chunk, max(TILE, state.slots * state.history.shape[1]))
        self.sizes = sizes(chunk)
        self.longest = state.history.shape[1]
        self._places: Callable[[Tensor, Tensor], Tensor] | None = None
        device = state.device
        self._tokens = torch.zeros(2, chunk, dtype=torch.int64, device=device)  # slots, positions
        self._tiles = torch.zeros(chunk // TILE + _ROWS, 4, dtype=torch.int32, device=device)

    def show(self, places: Callable[[Tensor, Tensor], Tensor], longest: int) -> None:
        """Rows are not as they are in the history.

        Args:
            places: slots and positions -> where these are in the history.
            longest: tokens of a row.
        """
        self._places, self.longest = places, longest

    def fill(self, stretches: Sequence[tuple[int, int, int]], sliding: SlidingPool | None = None) -> int:
        """Fills KV for the positions of the stretches; returns how many tokens that were.

        Args:
            stretches: see pack.
            sliding: of the rows, whose pages are taken forward by forward.
        """
        total = 0
        for forward in self._packed(stretches, sliding):
            self._load(forward)
            size = self._size(forward)
            key = ("prefill", id(self.decoder), size)
            self.graphs.run(key, partial(self.forward, size=size), self.state.lane)
            total += forward.tokens
        return total

    def _packed(self, stretches: Sequence[tuple[int, int, int]], sliding: SlidingPool | None) -> Iterator[Pack]:
        """The forwards, each with its pages as it is asked for."""
        for forward in pack(stretches, self.chunk):
            if sliding is not None:
                sliding.prepare(forward.stretches)
            yield forward
        if sliding is not None:
            sliding.prepare(())

    def _load(self, forward: Pack) -> None:
        """Brings what the forward is about to the device, without waiting."""
        # By numpy: PyTorch would repeat these few numbers with all cores, whose threads take milliseconds to wake.
        device, total, size = self.state.device, forward.tokens, self._size(forward)
        slots, start, end = np.array(forward.stretches, dtype=np.int64).T
        counts = end - start
        begin = counts.cumsum() - counts  # of each stretch among the tokens
        tokens = np.repeat(np.array([[self.state.slots], [-1]]), size, axis=1)
        tokens[0, :total] = np.repeat(slots, counts)
        tokens[1, :total] = np.arange(total) + np.repeat(start - begin, counts)
        cuts = -(-counts // TILE)
        number = np.arange(cuts.sum()) - np.repeat(cuts.cumsum() - cuts, cuts)  # of each tile in its stretch
        tiles = np.repeat(np.stack([slots, begin, start, counts], 1), cuts, axis=0)
        tiles[:, 1:] += number[:, None] * np.array([TILE, TILE, -TILE])
        tiles[:, 3] = tiles[:, 3].clip(max=TILE)
        lines = np.zeros(self._tiles.shape, dtype=np.int32)
        lines[: len(tiles)] = tiles

        def bring() -> None:
            self._tokens[:, :size] = upload(torch.from_numpy(tokens), torch.int64, device)
            self._tiles.copy_(upload(torch.from_numpy(lines), torch.int32, device), non_blocking=True)

        self.state.lane.run(bring)

    def _size(self, forward: Pack) -> int:
        return next(size for size in self.sizes if size >= forward.tokens)

    def _loaded(self, size: int) -> tuple[Tensor, PackedAt, Taps | None]:
        """The tokens that are loaded, where they stand, and what the head is to see.  # int64 [size]"""
        slots, positions = self._tokens[0, :size], self._tokens[1, :size]
        places = positions if self._places is None else self._places(slots, positions)
        tokens = self.state.history[slots, places.clamp(min=0)]
        at = PackedAt(slots, positions, Tiles(self._tiles[: size // TILE + min(_ROWS, size)]))
        return tokens, at, self.head.taps(size) if self.head is not None else None

    def forward(self, capture: Capture, size: int) -> None:
        """The step of a size, over the tokens that are loaded."""
        tokens, at, taps = self._loaded(size)
        self.decoder.fill(capture, tokens, at, taps)
        if self.head is not None and taps is not None:
            self.head.take_in_packed(taps, at)
