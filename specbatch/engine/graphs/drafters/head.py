"""An EAGLE-3 head over packed weights and pages, see general/eagle3_head. It shares the target's page table: its KV is one layer more.

The KV of a position is written when the target has run over it: in the forwards of prefill and verify themselves. So it never lags.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from specbatch.engine.general.eagle3 import Eagle3Drafter
from specbatch.engine.general.mtp_head import MtpHead
from specbatch.engine.graphs.decoder import Decoder
from specbatch.engine.graphs.describe.description import LayerDescription
from specbatch.engine.graphs.describe.modules import LayerModules
from specbatch.engine.graphs.describe.rotary import rope_table
from specbatch.engine.graphs.kv.paging import PAGE, Pages
from specbatch.engine.graphs.packing import pack_layer
from specbatch.engine.graphs.stage import PackedAt, RowsAt, Stage
from specbatch.engine.graphs.state import RowState
from specbatch.engine.graphs.taps import Taps


class PackedHead:
    """The head on the fast path.

    states: joined states of the position before each slot's last token, which its first draft goes on from  # [slots + 1, hidden]

    Args:
        drafter: whose weights are packed.
        target: all of it on the head's device.
        state: of the rows.
    """

    def __init__(self, drafter: Eagle3Drafter, target: Decoder, state: RowState) -> None:
        assert len(target.devices) == 1, "see make_engine"
        head, config = drafter.head, drafter.head.config
        self.layers = drafter.target_layers
        self.ops, self.eps, self.config = target.ops, config.rms_norm_eps, config
        self.state = state
        self.target_stage = target.stages[0]
        self.target_width = target.embedding.shape[1]
        self.dtype = head.dtype
        rope = rope_table(head.rotary_emb, config.head_dim, range(state.history.shape[1])).to(head.device)
        layer = pack_layer(_modules(head.layer), LayerDescription(config.head_dim**-0.5))
        self.stage = Stage(head.device, [layer], {"": rope})
        self.embedding = head.embed_tokens.weight.detach()
        self.input_norm = head.input_norm.weight.detach() if hasattr(head, "input_norm") else None
        self.fc = head.fc.weight.detach()
        self.before_attention = head.layer.input_layernorm.weight.detach()
        self.before_mlp = head.layer.post_attention_layernorm.weight.detach()
        self.hidden_norm = head.layer.hidden_norm.weight.detach()
        self.norm = head.norm.weight.detach()
        self.lm_head = head.lm_head.weight.detach()
        self.of_target = head.of_target
        self.draft_to_target = None if head.draft_to_target is None else head.draft_to_target[:, None].contiguous()
        shape = state.slots + 1, config.hidden_size
        self.states = torch.zeros(shape, dtype=head.dtype, device=head.device)

    @property
    def page_bytes(self) -> int:
        """Of the head, beside one page of the target."""
        return 2 * self.config.num_kv_heads * self.config.head_dim * PAGE * self.dtype.itemsize

    def allocate(self, pages: int) -> None:
        """Makes as many pages as the target has."""
        shape = (pages + 1, self.config.num_kv_heads, PAGE, self.config.head_dim)
        self.stage.pages = None  # frees the old ones first
        keys, values = (torch.zeros(shape, dtype=self.dtype, device=self.stage.device) for _ in range(2))
        self.stage.pages = Pages([keys], [values], self.target_stage.kv.table)

    def taps(self, tokens: int) -> Taps:
        """Room for what a forward of the target over so many tokens leaves."""
        width = len(self.layers) * self.target_width
        return Taps(self.layers, torch.empty(tokens, width, dtype=self.dtype, device=self.stage.device))

    def take_in_rows(self, taps: Taps, at: RowsAt, following: Tensor) -> None:
        """A round is committed: writes the KV of the verified positions, and keeps the states of each row's new last one but one.

        Args:
            taps: of the verify forward.
            at: where its tokens stand.
            following: the token after each of them, as the target has it  # int64 [B * n]
        """
        joined, slots = self._take_in(taps, at, following), at.slots
        n = len(joined) // len(slots)
        if n > 1:
            last = (self.state.lengths[slots] - 1 - at.first).clamp(0, n - 1)
            joined = joined.view(len(slots), n, -1)[torch.arange(len(slots), device=slots.device), last]
        self.states.index_copy_(0, slots, joined)

    def take_in_packed(self, taps: Taps, at: PackedAt) -> None:
        """As take_in_rows, of a prefill: the tokens that follow are in the history."""
        state, slots, positions = self.state, at.token_slots, at.token_positions
        following = state.history[slots, positions.clamp(min=0) + 1]
        joined = self._take_in(taps, at, following)
        ends = positions == state.lengths[slots] - 1
        self.states.index_copy_(0, torch.where(ends, slots, state.slots), joined)

    def _take_in(self, taps: Taps, at: RowsAt | PackedAt, following: Tensor) -> Tensor:
        """Writes KV; returns the joined states.  # [T, hidden]"""
        joined = self._join(taps.hidden)
        qkv, _ = self._qkv(following, joined)
        self.stage.rotate(self.ops, qkv, 0, self.eps, at.token_slots, at.token_positions)
        return joined

    def forward(self, tokens: Tensor, states: Tensor, at: RowsAt) -> tuple[Tensor, Tensor]:
        """One token a row, at the position before its own.

        Args:
            tokens: int64 [B]
            states: of those positions; not used again  # [B, hidden]
            at: the positions.

        Returns:
            states that the next position goes on from [B, hidden], logits [B, draft_vocab]
        """
        ops, layer = self.ops, self.stage.layers[0]
        qkv, residual = self._qkv(tokens, states)
        attended = at.attend(ops, qkv, self.stage, 0, self.eps).reshape(len(tokens), -1)
        hidden, ahead = ops.linear_add_ahead(attended, layer.o, residual, self.before_mlp, layer.gate_up)
        gated = ops.norm_gated(hidden, self.before_mlp, self.eps, layer.gate_up, ahead, layer.down)
        return self._finish(ops.linear_add(gated, layer.down, hidden))

    def _join(self, hidden: Tensor) -> Tensor:
        """See Eagle3Head.join."""
        if self.input_norm is not None:
            hidden = self.ops.rms_norm(hidden, self.input_norm, self.eps)
        return self.ops.linear(hidden, self.fc)

    def _finish(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """States that the next position goes on from, and logits."""
        return hidden, self.ops.norm_linear(hidden, self.norm, self.eps, self.lm_head)

    def _qkv(self, tokens: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
        """Queries, keys and values, and the residual."""
        ops, layer = self.ops, self.stage.layers[0]
        embedded = ops.rms_norm(ops.embed(tokens, self.embedding), self.before_attention, self.eps)
        normed = ops.rms_norm(states, self.hidden_norm, self.eps)
        qkv = ops.linear(torch.cat([embedded, normed], -1), layer.qkv, layer.qkv_bias)
        return qkv, normed if self.config.norm_before_residual else states


class MtpPackedHead(PackedHead):
    """As PackedHead, of an MtpHead."""

    def __init__(self, drafter: Eagle3Drafter, target: Decoder, state: RowState) -> None:
        super().__init__(drafter, target, state)
        assert isinstance(drafter.head, MtpHead), "see packed_head"
        self.token_norm = drafter.head.token_norm.weight.detach()

    def _join(self, hidden: Tensor) -> Tensor:
        assert self.input_norm is not None, "the target's last"
        return self.ops.rms_norm(hidden, self.input_norm, self.eps)

    def _finish(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        states = self.ops.rms_norm(hidden, self.norm, self.eps)
        return states, self.ops.linear(states, self.lm_head)

    def _qkv(self, tokens: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
        ops, layer = self.ops, self.stage.layers[0]
        embedded = ops.rms_norm(ops.embed(tokens, self.embedding), self.token_norm, self.eps)
        normed = ops.rms_norm(states, self.hidden_norm, self.eps)
        x = ops.linear(torch.cat([normed, embedded], -1), self.fc)
        return ops.norm_linear(x, self.before_attention, self.eps, layer.qkv, layer.qkv_bias), x


def packed_head(drafter: Eagle3Drafter, target: Decoder, state: RowState) -> PackedHead:
    """Of either kind; see PackedHead."""
    return (MtpPackedHead if drafter.head.config.mtp else PackedHead)(drafter, target, state)


def _modules(layer: Any) -> LayerModules:
    attention, mlp = layer.self_attn, layer.mlp
    return LayerModules(
        norms=(layer.input_layernorm, None, layer.post_attention_layernorm, None),
        attention=attention,
        qkv=(attention.q_proj, attention.k_proj, attention.v_proj),
        head_norms=(attention.q_norm, attention.k_norm) if hasattr(attention, "q_norm") else (),
        o=attention.o_proj,
        gate_up=(mlp.gate_proj, mlp.up_proj),
        activation=None,
        down=mlp.down_proj,
        gated=True,
    )
