"""A decoder's layers on one device, and where the tokens stand that run through them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from specbatch.engine.graphs.cuda_graphs import Capture
from specbatch.engine.graphs.kv.paging import Pages, Tiles
from specbatch.engine.graphs.lanes import Lane
from specbatch.engine.graphs.packing import Layer
from specbatch.engine.graphs.reference import TorchOps


@dataclass(frozen=True, slots=True)
class RowsAt:
    """The next n tokens of every row of a batch, row after row.

    slots, first: of each row, and the position of its first token  # int64 [B]
    token_slots, token_positions: of each token  # int64 [B * n]
    along: what else goes from lane to lane with them
    cascade: rows that share pages read these together, see Pages.prefixes
    """

    slots: Tensor
    first: Tensor
    token_slots: Tensor
    token_positions: Tensor
    along: tuple[Tensor, ...] = ()
    cascade: bool = False

    def attend(self, ops: TorchOps, qkv: Tensor, stage: Stage, number: int, eps: float) -> Tensor:
        """Rotation, write and attention.  # [B * n, heads, head_dim]"""
        layer, tokens = stage.layers[number], (self.token_slots, self.token_positions)
        if self.cascade and stage.kv.prefixes is not None and not layer.what.attention.window:
            q = stage.rotate(ops, qkv, number, eps, *tokens)
            rows, prefixes = q.view(len(self.slots), -1, *q.shape[1:]), stage.kv.prefixes.of(len(self.slots))
            what = prefixes, layer.what.scale, layer.what.attention
            return ops.attend_cascade(rows, stage.kv, number, self.slots, self.first, *what).view(q.shape)
        before = qkv, layer.q_norm, layer.k_norm, eps, stage.ropes[layer.what.rope], stage.kv_of(number), number
        return ops.rope_attend(*before, self.slots, self.first, *tokens, layer.what.scale, layer.what.attention)

    def to_lane(self, capture: Capture, lane: Lane, carried: Tensor) -> tuple[Tensor, RowsAt]:
        """The same on another lane, and a tensor with it."""
        where = self.slots, self.first, self.token_slots, self.token_positions
        carried, slots, first, token_slots, positions, *along = capture.to_lane(lane, carried, *where, *self.along)
        return carried, RowsAt(slots, first, token_slots, positions, tuple(along), self.cascade)


@dataclass(frozen=True, slots=True)
class PackedAt:
    """Stretches of rows, packed.

    token_slots, token_positions: int64 [T]
    """

    token_slots: Tensor
    token_positions: Tensor
    tiles: Tiles

    def attend(self, ops: TorchOps, qkv: Tensor, stage: Stage, number: int, eps: float) -> Tensor:
        """Rotation, write and attention.  # [T, heads, head_dim]"""
        q = stage.rotate(ops, qkv, number, eps, self.token_slots, self.token_positions)
        what = stage.layers[number].what
        return ops.attend_packed(q, stage.kv_of(number), number, self.tiles, what.scale, what.attention)

    def to_lane(self, capture: Capture, lane: Lane, carried: Tensor) -> tuple[Tensor, PackedAt]:
        """The same on another lane, and a tensor with it."""
        here = capture.to_lane(lane, carried, self.token_slots, self.token_positions, self.tiles.rows)
        return here[0], PackedAt(here[1], here[2], Tiles(here[3]))


@dataclass(slots=True)
class Stage:
    """Neighbouring layers on one device, their KV, and the rotary tables there. See Decoder.run_on for its lane.

    ropes: by the kinds of layers, see rope_tables
    sliding: the same KV by the table of layers with a window, where these have pages of their own, see SlidingPool
    """

    device: torch.device
    layers: list[Layer] = field(default_factory=list)
    ropes: dict[str | None, Tensor] = field(default_factory=dict)
    pages: Pages | None = None
    sliding: Pages | None = None
    lane: Lane = field(init=False)

    def __post_init__(self) -> None:
        self.lane = Lane(self.device)

    @property
    def kv(self) -> Pages:
        """The pages, once they are allocated."""
        assert self.pages is not None, "forward before pages are allocated"
        return self.pages

    def kv_of(self, number: int) -> Pages:
        """The pages as a layer finds them."""
        return self.sliding if self.sliding is not None and self.layers[number].what.attention.window else self.kv

    @property
    def padding(self) -> int:
        """The slot that belongs to no row."""
        return len(self.kv.table) - 1

    def rotate(self, ops: TorchOps, qkv: Tensor, number: int, eps: float, slots: Tensor, positions: Tensor) -> Tensor:
        """Writes a layer's KV and returns its queries, see TorchOps.rope_write.  # [T, heads, head_dim]"""
        layer = self.layers[number]
        before = qkv, layer.q_norm, layer.k_norm, eps, self.ropes[layer.what.rope], self.kv_of(number), number
        return ops.rope_write(*before, slots, positions, layer.what.attention)

    @contextmanager
    def shortened(self) -> Iterator[None]:
        """A layer of each kind of attention and MLP and the last, in place of all: one that is not its last, and its last, do all that layers do."""
        whole = self.layers
        kinds = {(layer.what.attention, layer.what.routing): layer for layer in reversed(whole[:-1])}
        self.layers = [*kinds.values(), whole[-1]]
        try:
            yield
        finally:
            self.layers = whole
