"""When it pays that rows read shared pages together: bytes that are not read again, against kernels that come on top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from specbatch.engine.graphs.cascade.tiles import Tile
from specbatch.engine.graphs.decoder import Decoder
from specbatch.engine.graphs.kv.paging import PAGE

# Of a layer, fitted to `benchmarks.gpu --shared-prefix --cascade` on an H200: see docs/decisions/0039.
_KERNELS = 10e-6  # seconds that three kernels take longer than one, however little they read
_PAGE = 1e-6  # seconds that a program takes for a page: it reads one after the other
_CACHED = 0.5  # of the time of a read from memory: of a page that another row has just read
_SPLITS = 8  # programs that share a tile's pages


@dataclass(frozen=True, slots=True)
class CascadePrice:
    """Seconds that attention of one forward saves.

    layers: that may read pages together: those without a window
    page: seconds to read a page of one layer from memory
    query: seconds to write what is found of a query over shared pages, and to read it back
    """

    layers: int
    page: float
    query: float

    @classmethod
    def of(cls, decoder: Decoder, bandwidth: float) -> CascadePrice:
        """Of a decoder on GPUs of so many bytes a second."""
        heads, width = decoder.page_shape
        layers = [layer for stage in decoder.stages for layer in stage.layers]
        plain = [layer for layer in layers if not layer.what.attention.window]
        of_page = 2 * heads * PAGE * width * decoder.dtype.itemsize
        of_query = 2 * 4 * max((layer.o.shape[1] for layer in plain), default=0)  # float32
        return cls(len(plain), of_page / bandwidth, of_query / bandwidth)

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
        own = dict(enumerate(pages))
        for tile in tiles:
            for place in tile.places:
                own[place] -= tile.pages
        longest = max((tile.pages for tile in tiles), default=0)
        shared = sum(tile.pages for tile in tiles)
        apart = (read - saved) * self.page + saved * self.page * _CACHED
        together = max(sum(own.values()) * self.page, max(own.values()) * _PAGE)
        together += max(shared * self.page, -(-longest // _SPLITS) * _PAGE)
        return self.layers * (apart - together - _KERNELS - seated * queries * self.query)
