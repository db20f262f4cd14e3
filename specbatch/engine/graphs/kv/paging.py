"""KV in pages: a row holds as many as its length needs, wherever they lie, and names them in its line of a table.

PagedAttention (Kwon et al., arXiv 2309.06180). Page 0 is the padding page: padding writes there, and a row's unused table
entries point there, so that a stray write hits nothing. As in the slot cache there is no rollback: a position's KV is valid
exactly when it lies below the row's length.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from specbatch.engine import prefix
from specbatch.engine.graphs.cascade.tiles import PrefixTiles

PAGE = prefix.PAGE  # positions


@dataclass(frozen=True, slots=True)
class Pages:
    """The KV of one model's layers on one device.

    keys, values: per layer [pages, kv_heads, PAGE, head_dim]
    table: page of each stretch of PAGE positions of each slot  # int32 [slots + 1, pages of the longest row]
    prefixes: rows of the batch that read shared pages together; None: each row reads its own
    """

    keys: list[Tensor]
    values: list[Tensor]
    table: Tensor
    prefixes: PrefixTiles | None = None


@dataclass(frozen=True, slots=True)
class Tiles:
    """Stretches of rows in a packed forward, cut to at most TILE queries.

    rows: slot, first token in the packed tensors, its position in its row, tokens (0: unused)  # int32 [tiles, 4]
    """

    rows: Tensor


TILE = 64  # queries
