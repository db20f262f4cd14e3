"""A decoder over packed weights and paged KV, run by its description: five operations a layer of Llama's or Qwen3's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from specbatch.engine.fp8.w8a8 import FP8
from specbatch.engine.general.model import CausalLM
from specbatch.engine.graphs.cuda_graphs import Capture
from specbatch.engine.graphs.describe.cut import CutModel
from specbatch.engine.graphs.describe.describe import describe
from specbatch.engine.graphs.describe.description import DecoderDescription
from specbatch.engine.graphs.describe.modules import decoder_of
from specbatch.engine.graphs.describe.operations import Normed
from specbatch.engine.graphs.describe.rotary import rope_tables
from specbatch.engine.graphs.lanes import Lane
from specbatch.engine.graphs.packing import Experts, Layer, norm_weight, pack_layers, weight_of
from specbatch.engine.graphs.reference import Ahead, TorchOps
from specbatch.engine.graphs.stage import PackedAt, RowsAt, Stage
from specbatch.engine.graphs.taps import Taps
from specbatch.engine.quantization.weight import Weight

_At = TypeVar("_At", RowsAt, PackedAt)


class Decoder:
    """One model of the pair on the fast path.

    eps, head_eps: of the norms of the hidden states, and of all others
    embed_scale: embeddings are multiplied by it
    residual_scale: hidden states, to be those of transformers' modules
    page_shape: heads and width of a page

    The hidden states are kept without the factor by which attention and MLP are added to them (Granite's): norms do not see it.

    Args:
        model: that fits.why_not finds nothing against; its weights are packed.
        ops: the operations.
        max_positions: the longest row, speculative tokens included.
        stages: that the layers of one device are cut into at least.
        description: of the model, where it is known.
    """

    def __init__(
        self,
        model: CausalLM | CutModel,
        ops: TorchOps,
        max_positions: int,
        stages: int = 1,
        description: DecoderDescription | None = None,
    ) -> None:
        positions = min(max_positions, model.max_positions)
        what = description or describe(model.model, model.longest)
        decoder = decoder_of(model.model)
        self.ops = ops
        self.vocab_size = model.vocab_size
        self.page_shape = what.kv_heads, what.head_dim
        self.eps, self.head_eps = what.eps / what.residual_scale**2, what.eps
        self.embed_scale = what.embed_scale / what.residual_scale
        self.residual_scale = what.residual_scale
        self.logit_softcap = what.logit_softcap
        self.dtype: torch.dtype = model.model.dtype
        self.kv_dtype = FP8 if model.fp8_kv else self.dtype
        self.embedding: Tensor = decoder.embed_tokens.weight.detach()
        self.norm = norm_weight(decoder.norm, what.norm_offset, what.logit_scale)
        self.head: Weight = weight_of(model.model.get_output_embeddings())
        self.stages: list[Stage] = []
        self.rotary = decoder.rotary_emb
        ropes = rope_tables(self.rotary, what, range(positions))
        for number, layer in enumerate(pack_layers(model.model, what)):
            begins = stages > 1 and number * stages // len(what.layers) > (number - 1) * stages // len(what.layers)
            if not self.stages or begins or self.stages[-1].device != layer.device:
                tables = {kind: table.to(layer.device) for kind, table in ropes.items()}
                self.stages.append(Stage(layer.device, ropes=tables))
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
        self.lanes, self.input_lane, self.head_lane = tuple(dict.fromkeys(lanes)), lanes[0], lanes[-1]
        first = len(self.devices) - len(self.stages) - (self.head.device != self.stages[-1].device)
        for stage, lane in zip(self.stages, lanes[first:], strict=False):
            stage.lane = lane

    @property
    def has_experts(self) -> bool:
        """Whether what a step reads depends on its tokens."""
        return any(layer.experts is not None for stage in self.stages for layer in stage.layers)

    @property
    def window(self) -> int:
        """The largest window of a layer; 0: none has one."""
        return max(layer.what.attention.window for stage in self.stages for layer in stage.layers)

    def forward(self, capture: Capture, tokens: Tensor, at: _At, taps: Taps | None = None) -> tuple[Tensor, _At]:
        """Runs tokens at their positions, writing their KV.

        Args:
            capture: of what the step does; moves between lanes go through it.
            tokens: int64 [T]
            at: where they stand.
            taps: filled with the inputs of some layers, the last norm being one more; all are on one stage then.

        Returns:
            hidden states before the last norm, and where they stand, on the last stage's lane  # [T, hidden]
        """
        tokens, at = at.to_lane(capture, self.input_lane, tokens)
        hidden = self._embed(tokens)
        for stage in self.stages:
            hidden, at = at.to_lane(capture, stage.lane, hidden)
            hidden, _ = self._layers(stage, len(stage.layers), hidden, at, taps)
        self._tap(taps, len(self.stages[-1].layers), hidden)
        return hidden, at

    def fill(self, capture: Capture, tokens: Tensor, at: _At, taps: Taps | None = None) -> None:
        """As forward, for the KV alone: the last layer stops where it has written its own, unless what it leaves is tapped."""
        if taps is not None and len(self.stages[-1].layers) in taps.layers:
            self.forward(capture, tokens, at, taps)
            return
        tokens, at = at.to_lane(capture, self.input_lane, tokens)
        hidden = self._embed(tokens)
        for stage in self.stages:
            hidden, at = at.to_lane(capture, stage.lane, hidden)
            last = len(stage.layers) - 1 if stage is self.stages[-1] else len(stage.layers)
            hidden, ahead = self._layers(stage, last, hidden, at, taps)
            if last < len(stage.layers):
                self._tap(taps, last, hidden)
                qkv = self._qkv(stage.layers[last], hidden, ahead)
                stage.rotate(self.ops, qkv, last, self.head_eps, at.token_slots, at.token_positions)

    def logits(self, capture: Capture, hidden: Tensor, at: _At) -> tuple[Tensor, _At]:
        """The language-model head.  # [R, hidden] -> [R, vocab], and where they stand, on the head's lane"""
        if self.norm.device == self.head.device:
            hidden, at = at.to_lane(capture, self.head_lane, hidden)
            logits = self.ops.norm_linear(hidden, self.norm, self.eps, self.head)
        else:
            normed, at = at.to_lane(capture, self.head_lane, self.ops.rms_norm(hidden, self.norm, self.eps))
            logits = self.ops.linear(normed, self.head)
        return self.ops.softcap(logits, self.logit_softcap) if self.logit_softcap else logits, at

    def _embed(self, tokens: Tensor) -> Tensor:
        hidden = self.ops.embed(tokens, self.embedding)
        return hidden if self.embed_scale == 1 else hidden * self.embed_scale

    def _tap(self, taps: Taps | None, number: int, hidden: Tensor) -> None:
        if taps is not None:
            taps.keep(number, hidden if self.residual_scale == 1 else hidden * self.residual_scale)

    def _layers(
        self, stage: Stage, count: int, hidden: Tensor, at: RowsAt | PackedAt, taps: Taps | None
    ) -> tuple[Tensor, Ahead | Normed | None]:
        """The first `count` layers of a stage, and what is there already for the norm of the one after them."""
        ahead = None
        for number, layer in enumerate(stage.layers[:count]):
            self._tap(taps, number, hidden)
            after = stage.layers[number + 1] if number + 1 < len(stage.layers) else None
            qkv = self._qkv(layer, hidden, ahead)
            attended = at.attend(self.ops, qkv, stage, number, self.head_eps).reshape(len(hidden), -1)
            linear = layer.o, layer.o_bias, layer.attended_norm
            following = (after.input_norm, after.qkv) if after is not None else (None, layer.qkv)
            if layer.experts is not None:
                hidden, _ = self._add(attended, *linear, hidden, None, layer.qkv)
                hidden, ahead = self._mixture(layer, layer.experts, hidden, at.token_slots, stage.padding, following[0])
                continue
            hidden, ahead = self._add(attended, *linear, hidden, layer.post_norm, layer.gate_up)
            fed = self._mlp(layer, hidden, ahead)
            hidden, ahead = self._add(fed, layer.down, layer.down_bias, layer.fed_norm, hidden, *following)
        return hidden, ahead

    def _qkv(self, layer: Layer, hidden: Tensor, ahead: Ahead | Normed | None) -> Tensor:
        ops, linear = self.ops, (layer.qkv, layer.qkv_bias)
        if layer.input_norm is None:
            return ops.linear(hidden, *linear)
        return ops.norm_linear(hidden, layer.input_norm, self.eps, *linear, ahead, layer.o)

    def _mlp(self, layer: Layer, hidden: Tensor, ahead: Ahead | Normed | None) -> Tensor:
        """Without its last linear.  # [T, hidden] -> [T, intermediate]"""
        ops, norm, activation = self.ops, layer.post_norm, layer.what.activation
        if layer.what.gated and layer.gate_up_bias is None:
            return ops.norm_gated(hidden, norm, self.eps, layer.gate_up, ahead, layer.down, activation)
        linear = layer.gate_up, layer.gate_up_bias
        up = ops.linear(hidden, *linear) if norm is None else ops.norm_linear(hidden, norm, self.eps, *linear, ahead, layer.down)  # fmt: skip
        return ops.gate(up, activation) if layer.what.gated else ops.activate(up, activation)

    def _mixture(
        self, layer: Layer, experts: Experts, hidden: Tensor, slots: Tensor, padding: int, following_norm: Tensor | None,
    ) -> tuple[Tensor, Ahead | Normed | None]:  # fmt: skip
        """The hidden states with what a mixture of experts adds to them; and what is there for the norm that follows."""
        ops, what = self.ops, layer.what
        assert what.routing is not None, "described so"
        chooses = experts.router, experts.bias, what.routing, slots, padding
        x, logits, routed = ops.route(hidden, layer.post_norm, self.eps, *chooses)
        base = hidden if layer.fed_norm is None else None
        if layer.gate_up.shape[0]:
            shared = self._shared(layer, x, logits[:, what.routing.experts :])
            if base is None:
                base = ops.linear(shared, layer.down, layer.down_bias)
            else:
                base, _ = self._add(shared, layer.down, layer.down_bias, None, base, None, layer.qkv)
        given = x, routed, experts.gate_up, experts.down, what.activation, base
        if layer.fed_norm is None:
            return ops.experts(*given, following_norm, self.eps)
        behind = ops.experts(*given)[0], layer.fed_norm, self.head_eps, hidden
        if following_norm is None:
            return ops.norm_add(*behind), None
        return ops.norm_add_ahead(*behind, following_norm, self.eps)

    def _shared(self, layer: Layer, x: Tensor, gate: Tensor) -> Tensor:
        """The MLP beside the experts, without its last linear.  # [T, hidden], [T, 1 or 0] -> [T, intermediate]"""
        fed = self._mlp(replace(layer, post_norm=None), x, None)
        return fed * gate.sigmoid().to(fed.dtype) if gate.shape[1] else fed

    def _add(
        self, x: Tensor, weight: Weight, bias: Tensor | None, norm: Tensor | None, hidden: Tensor,
        following_norm: Tensor | None, following: Weight,
    ) -> tuple[Tensor, Ahead | Normed | None]:  # fmt: skip
        """The hidden states with a linear's output, normed first where it has a norm; and what is there for the norm that follows."""
        if norm is not None:
            behind = self.ops.linear(x, weight, bias), norm, self.head_eps, hidden
            if following_norm is None:
                return self.ops.norm_add(*behind), None
            return self.ops.norm_add_ahead(*behind, following_norm, self.eps)
        if bias is not None:
            hidden = hidden + bias
        if following_norm is None:
            return self.ops.linear_add(x, weight, hidden), None
        return self.ops.linear_add_ahead(x, weight, hidden, following_norm, following)
