"""KV in pages: a row holds as many as its length needs, wherever they lie, and names them in its line of a table.

PagedAttention (Kwon et al., arXiv 2309.06180). Page 0 is the padding page: padding writes there, and a row's unused table
entries point there, so that a stray write hits nothing. As in the slot cache there is no rollback: a position's KV is valid
exactly when it lies below the row's length.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from specbatch.engine import prefix
from specbatch.engine.fp8.kv import rounded, widened
from specbatch.engine.graphs.cascade.tiles import PrefixTiles

PAGE = prefix.PAGE  # positions


@dataclass(frozen=True, slots=True)
class Pages:
    """The KV of one model's layers on one device.

    keys, values: per layer [pages, kv_heads, PAGE, head_dim]
    key_scales, value_scales: of pages in FP8, see fp8/kv.py; none of others  # per layer [pages, kv_heads, PAGE]
    table: page of each stretch of PAGE positions of each slot  # int32 [slots + 1, pages of the longest row]
    prefixes: rows of the batch that read shared pages together; None: each row reads its own
    """

    keys: list[Tensor]
    values: list[Tensor]
    table: Tensor
    prefixes: PrefixTiles | None = None
    key_scales: list[Tensor] = field(default_factory=list)
    value_scales: list[Tensor] = field(default_factory=list)

    def scales(self, layer: int) -> tuple[Tensor, Tensor] | tuple[None, None]:
        """Of a layer's keys and values."""
        return (self.key_scales[layer], self.value_scales[layer]) if self.key_scales else (None, None)

    def write(self, layer: int, page: Tensor, inside: Tensor, k: Tensor, v: Tensor) -> None:
        """Stores tokens.

        Args:
            layer: of the model's on this device.
            page: of each token  # int64 [T]
            inside: its place there  # int64 [T]
            k: keys  # [T, kv_heads, head_dim]
            v: values, likewise.
        """
        for stored, scales, new in zip((self.keys, self.values), self.scales(layer), (k, v), strict=True):
            if scales is None:
                stored[layer][page, :, inside] = new
            else:
                stored[layer][page, :, inside], scales[page, :, inside] = rounded(new)

    def read(self, layer: int, pages: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Keys and values of pages.  # int64 [...] -> [..., kv_heads, PAGE, head_dim], twice"""
        stored, scales = (self.keys[layer][pages], self.values[layer][pages]), self.scales(layer)
        if scales[0] is None or scales[1] is None:
            return stored
        return widened(stored[0], scales[0][pages], dtype), widened(stored[1], scales[1][pages], dtype)


@dataclass(frozen=True, slots=True)
class Tiles:
    """Stretches of rows in a packed forward, cut to at most TILE queries.

    rows: slot, first token in the packed tensors, its position in its row, tokens (0: unused)  # int32 [tiles, 4]
    """

    rows: Tensor


TILE = 64  # queries
