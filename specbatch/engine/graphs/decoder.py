"""A Qwen3- or Llama-shaped decoder over packed weights and paged KV: seven operations a layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from specbatch.engine.general.model import CausalLM
from specbatch.engine.graphs.cuda_graphs import Capture
from specbatch.engine.graphs.lanes import Lane
from specbatch.engine.graphs.packing import Layer, pack_layers
from specbatch.engine.graphs.paging import Pages, Tiles
from specbatch.engine.graphs.reference import Ahead, TorchOps
from specbatch.engine.graphs.taps import Taps


@dataclass(frozen=True, slots=True)
class RowsAt:
    """The next n tokens of every row of a batch, row after row.

    slots, first: of each row, and the position of its first token  # int64 [B]
    token_slots, token_positions: of each token  # int64 [B * n]
    along: what else goes from lane to lane with them
    """

    slots: Tensor
    first: Tensor
    token_slots: Tensor
    token_positions: Tensor
    along: tuple[Tensor, ...] = ()

    def attend(self, ops: TorchOps, qkv: Tensor, stage: Stage, number: int, eps: float, scale: float) -> Tensor:
        """Rotation, write and attention.  # [B * n, heads, head_dim]"""
        layer, tokens = stage.layers[number], (self.token_slots, self.token_positions)
        rows = self.slots, self.first
        return ops.rope_attend(
            qkv, layer.q_norm, layer.k_norm, eps, stage.rope, stage.kv, number, *rows, *tokens, scale
        )

    def to_lane(self, capture: Capture, lane: Lane, carried: Tensor) -> tuple[Tensor, RowsAt]:
        """The same on another lane, and a tensor with it."""
        where = self.slots, self.first, self.token_slots, self.token_positions
        carried, slots, first, token_slots, positions, *along = capture.to_lane(lane, carried, *where, *self.along)
        return carried, RowsAt(slots, first, token_slots, positions, tuple(along))


@dataclass(frozen=True, slots=True)
class PackedAt:
    """Stretches of rows, packed.

    token_slots, token_positions: int64 [T]
    """

    token_slots: Tensor
    token_positions: Tensor
    tiles: Tiles

    def attend(self, ops: TorchOps, qkv: Tensor, stage: Stage, number: int, eps: float, scale: float) -> Tensor:
        """Rotation, write and attention.  # [T, heads, head_dim]"""
        q = stage.rotate(ops, qkv, number, eps, self.token_slots, self.token_positions)
        return ops.attend_packed(q, stage.kv, number, self.tiles, scale)

    def to_lane(self, capture: Capture, lane: Lane, carried: Tensor) -> tuple[Tensor, PackedAt]:
        """The same on another lane, and a tensor with it."""
        here = capture.to_lane(lane, carried, self.token_slots, self.token_positions, self.tiles.rows)
        return here[0], PackedAt(here[1], here[2], Tiles(here[3]))


@dataclass(slots=True)
class Stage:
    """Neighbouring layers on one device, their KV, and the rotary table there. See Decoder.run_on for its lane.

    rope: cos, then sin  # float32 [positions, head_dim]
    """

    device: torch.device
    layers: list[Layer] = field(default_factory=list)
    rope: Tensor = field(default_factory=lambda: torch.empty(0))
    pages: Pages | None = None
    lane: Lane = field(init=False)

    def __post_init__(self) -> None:
        self.lane = Lane(self.device)

    @property
    def kv(self) -> Pages:
        """The pages, once they are allocated."""
        assert self.pages is not None, "forward before pages are allocated"
        return self.pages

    def rotate(self, ops: TorchOps, qkv: Tensor, number: int, eps: float, slots: Tensor, positions: Tensor) -> Tensor:
        """Writes a layer's KV and returns its queries, see TorchOps.rope_write.  # [T, heads, head_dim]"""
        layer = self.layers[number]
        return ops.rope_write(qkv, layer.q_norm, layer.k_norm, eps, self.rope, self.kv, number, slots, positions)


_At = TypeVar("_At", RowsAt, PackedAt)


class Decoder:
    """One model of the pair on the fast path.

    Args:
        model: that packing.why_not finds nothing against; its weights are packed.
        ops: the operations.
        max_positions: the longest row, speculative tokens included.
        stages: that the layers of one device are cut into at least.
    """

    def __init__(self, model: CausalLM, ops: TorchOps, max_positions: int, stages: int = 1) -> None:
        config, base = model.config, model.model.base_model
        self.ops = ops
        self.vocab_size = model.vocab_size
        self.kv_heads = int(config.num_key_value_heads)
        self.head_dim = int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
        self.eps = float(config.rms_norm_eps)
        self.dtype: torch.dtype = model.model.dtype
        self.embedding: Tensor = base.embed_tokens.weight.detach()
        self.norm: Tensor = base.norm.weight.detach()
        self.head: Tensor = model.model.get_output_embeddings().weight.detach()
        self.stages: list[Stage] = []
        rope = rope_table(base.rotary_emb, min(max_positions, model.max_positions), self.head_dim)
        layers = pack_layers(model.model)
        for number, layer in enumerate(layers):
            begins = stages > 1 and number * stages // len(layers) > (number - 1) * stages // len(layers)
            if not self.stages or begins or self.stages[-1].device != layer.device:
                self.stages.append(Stage(layer.device, rope=rope.to(layer.device)))
            self.stages[-1].layers.append(layer)
        self.run_on([Lane(device) for device in self.devices])

    @property
    def devices(self) -> list[torch.device]:
        """Of the parts that get a lane each, in the order of a forward: the embedding and the head with their neighbours, where these are on the same device."""
        stages = [stage.device for stage in self.stages]
        before = [self.embedding.device] if self.embedding.device != stages[0] else []
        after = [self.head.device] if self.head.device != stages[-1] else []
        return [*before, *stages, *after]

    def run_on(self, lanes: Sequence[Lane]) -> None:
        """Gives each part its lane, or all of them the only one."""
        lanes = lanes if len(lanes) > 1 else [lanes[0]] * len(self.devices)
        self.input_lane, self.head_lane = lanes[0], lanes[-1]
        first = len(self.devices) - len(self.stages) - (self.head.device != self.stages[-1].device)
        for stage, lane in zip(self.stages, lanes[first:], strict=False):
            stage.lane = lane

    @property
    def page_shape(self) -> tuple[int, int]:
        """Heads and width of a page."""
        return self.kv_heads, self.head_dim

    def forward(self, capture: Capture, tokens: Tensor, at: _At, taps: Taps | None = None) -> tuple[Tensor, _At]:
        """Runs tokens at their positions, writing their KV.

        Args:
            capture: of what the step does; moves between lanes go through it.
            tokens: int64 [T]
            at: where they stand.
            taps: filled with the inputs of some layers; all are on one stage then.

        Returns:
            hidden states before the last norm, and where they stand, on the last stage's lane  # [T, hidden]
        """
        tokens, at = at.to_lane(capture, self.input_lane, tokens)
        hidden = self.ops.embed(tokens, self.embedding)
        for stage in self.stages:
            hidden, at = at.to_lane(capture, stage.lane, hidden)
            hidden, _ = self._layers(stage, len(stage.layers), hidden, at, taps)
        return hidden, at

    def fill(self, capture: Capture, tokens: Tensor, at: RowsAt | PackedAt, taps: Taps | None = None) -> None:
        """As forward, for the KV alone: the last layer stops where it has written its own."""
        tokens, at = at.to_lane(capture, self.input_lane, tokens)
        hidden = self.ops.embed(tokens, self.embedding)
        for stage in self.stages:
            hidden, at = at.to_lane(capture, stage.lane, hidden)
            last = len(stage.layers) - 1 if stage is self.stages[-1] else len(stage.layers)
            hidden, ahead = self._layers(stage, last, hidden, at, taps)
            if last < len(stage.layers):
                if taps is not None:
                    taps.keep(last, hidden)
                qkv = self._qkv(stage.layers[last], hidden, ahead)
                stage.rotate(self.ops, qkv, last, self.eps, at.token_slots, at.token_positions)

    def logits(self, capture: Capture, hidden: Tensor, at: _At) -> tuple[Tensor, _At]:
        """The language-model head.  # [R, hidden] -> [R, vocab], and where they stand, on the head's lane"""
        if self.norm.device == self.head.device:
            hidden, at = at.to_lane(capture, self.head_lane, hidden)
            return self.ops.norm_linear(hidden, self.norm, self.eps, self.head), at
        normed, at = at.to_lane(capture, self.head_lane, self.ops.rms_norm(hidden, self.norm, self.eps))
        return self.ops.linear(normed, self.head), at

    @contextmanager
    def shortened(self) -> Iterator[None]:
        """Two layers a stage in place of all: one that is not its last, and its last, do all that layers do."""
        whole = [stage.layers for stage in self.stages]
        for stage in self.stages:
            stage.layers = stage.layers[:2]
        try:
            yield
        finally:
            for stage, layers in zip(self.stages, whole, strict=True):
                stage.layers = layers

    def _layers(
        self, stage: Stage, count: int, hidden: Tensor, at: RowsAt | PackedAt, taps: Taps | None
    ) -> tuple[Tensor, Ahead | None]:
        """The first `count` layers of a stage, and what is there already for the norm of the one after them."""
        ops, eps, ahead = self.ops, self.eps, None
        for number, layer in enumerate(stage.layers[:count]):
            if taps is not None:
                taps.keep(number, hidden)
            after = stage.layers[number + 1] if number + 1 < len(stage.layers) else None
            qkv = self._qkv(layer, hidden, ahead)
            attended = at.attend(ops, qkv, stage, number, eps, self.head_dim**-0.5).reshape(len(hidden), -1)
            hidden, ahead = ops.linear_add_ahead(attended, layer.o, hidden, layer.post_norm, layer.gate_up)
            gated = ops.norm_gated(hidden, layer.post_norm, eps, layer.gate_up, ahead, layer.down)
            if after is None:
                return ops.linear_add(gated, layer.down, hidden), None
            hidden, ahead = ops.linear_add_ahead(gated, layer.down, hidden, after.input_norm, after.qkv)
        return hidden, ahead

    def _qkv(self, layer: Layer, hidden: Tensor, ahead: Ahead | None) -> Tensor:
        return self.ops.norm_linear(hidden, layer.input_norm, self.eps, layer.qkv, layer.qkv_bias, ahead, layer.o)


@torch.no_grad()
def rope_table(rotary: Any, positions: int, head_dim: int) -> Tensor:
    """The model's own cos and sin of every position, scaling included.  # float32 [positions, head_dim]"""
    device = rotary.inv_freq.device
    at = torch.arange(positions, device=device)[None]
    cos, sin = rotary(torch.empty(1, 1, dtype=torch.float32, device=device), at)
    half = head_dim // 2
    return torch.cat([cos[0, :, :half], sin[0, :, :half]], dim=-1).float()
