"""When it pays that rows read shared pages together: bytes that are not read again, against kernels that come on top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from specbatch.engine.fp8.kv import head_bytes
from specbatch.engine.graphs.cascade.tiles import ROWS, Tile
from specbatch.engine.graphs.decoder import Decoder
from specbatch.engine.graphs.kv.paging import PAGE

# Of a layer, fitted to `benchmarks.cascade` on an H200: docs/decisions/0039.
_KERNELS = 5e-6  # seconds that three kernels take longer than one, however little they read
_PAGE = 1e-6  # seconds that a program takes for a page: it reads one after the other
_CACHED = 0.5  # of the time of a read from memory: of a page that another row has just read
_SPLITS = 8  # programs that share a tile's pages
_QUERIES = 64  # of a kv head, that a program takes over them: as in kernel.py
# For each number of a query: its rotation apart, what is found over shared pages written and read in float32.
_QUERY_BYTES = 24


@dataclass(frozen=True, slots=True)
class CascadePrice:
    """Seconds that attention of one forward saves.

    layers: that may read pages together: those without a window
    page: seconds to read a page of one layer from memory
    query: seconds that the heads of a token take more in one layer
    groups: heads of a kv head
    """

    layers: int
    page: float
    query: float
    groups: int

    @classmethod
    def of_shape(
        cls, layers: int, heads: int, kv_heads: int, head_dim: int, dtype: torch.dtype, bandwidth: float
    ) -> CascadePrice:
        """Of so many layers, heads and pages of a dtype, on GPUs of so many bytes a second."""
        page, query = 2 * kv_heads * PAGE * head_bytes(head_dim, dtype), _QUERY_BYTES * heads * head_dim
        return cls(layers, page / bandwidth, query / bandwidth, heads // kv_heads)

    @classmethod
    def of(cls, decoder: Decoder, bandwidth: float) -> CascadePrice:
        """Of a decoder on GPUs of so many bytes a second."""
        kv_heads, head_dim = decoder.page_shape
        layers = [layer for stage in decoder.stages for layer in stage.layers]
        plain = sum(not layer.what.attention.window for layer in layers)
        heads = layers[0].o.shape[1] // head_dim
        return cls.of_shape(plain, heads, kv_heads, head_dim, decoder.kv_dtype, bandwidth)

    def at_most(self, saved: int) -> float:
        """However rows are seated.

        Args:
            saved: pages that rows hold beside others.
        """
        return self.layers * (saved * self.page * _CACHED - _KERNELS)

    def saved(self, tiles: Sequence[Tile], pages: Sequence[int], queries: int) -> float:
        """By reading together what rows share; below 0 where that takes longer.

        Args:
            tiles: of the rows of a batch.
            pages: that each row has.
            queries: of a row.
        """
        saved, read, seated = sum(tile.saved for tile in tiles), sum(pages), sum(len(tile.places) for tile in tiles)
        own = list(pages)
        for tile in tiles:
            for place in tile.places:
                own[place] -= tile.pages
        longest = max((tile.pages for tile in tiles), default=0)
        shared = sum(tile.pages for tile in tiles)
        apart = (read - saved) * self.page + saved * self.page * _CACHED
        together = max(sum(own) * self.page, max(own) * _PAGE)
        # That read a tile's pages, the first of them from memory.
        programs = -(-ROWS * queries * self.groups // _QUERIES)
        together += max(shared * self.page * max(1.0, programs * _CACHED), -(-longest // _SPLITS) * _PAGE)
        return self.layers * (apart - together - _KERNELS - seated * queries * self.query)
