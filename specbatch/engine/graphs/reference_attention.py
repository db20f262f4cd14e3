"""Rotation and attention over pages in plain PyTorch, see reference."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from specbatch.engine.graphs.cascade.reference import attend_cascade
from specbatch.engine.graphs.cascade.tiles import PrefixTiles
from specbatch.engine.graphs.describe.description import PLAIN, AttentionKind
from specbatch.engine.graphs.describe.operations import TorchLayers, rms_norm
from specbatch.engine.graphs.kv.paging import PAGE, Pages, Tiles


class TorchAttention(TorchLayers):
    """What a layer does with its queries, keys and values."""

    def rope_write(
        self,
        qkv: Tensor,
        q_norm: Tensor | None,
        k_norm: Tensor | None,
        eps: float,
        rope: Tensor,
        pages: Pages,
        layer: int,
        slots: Tensor,
        positions: Tensor,
        kind: AttentionKind = PLAIN,
    ) -> Tensor:
        """Norms (where given) and rotates queries and keys, and writes keys and values to the rows' pages.

        Args:
            qkv: queries of all heads, then keys, then values  # [T, (heads + 2 kv_heads) * D]
            q_norm: of each head  # [D]; or over all of them  # [heads * D]
            k_norm: the same  # [D] or [kv_heads * D]
            eps: of the norms.
            rope: cos in the first half of the columns, sin in the second  # float32 [positions, D]
            pages: KV of the model's layers on this device.
            layer: index in `pages`.
            slots: int64 [T]
            positions: -1 marks padding, which is written to page 0, where nothing reads  # int64 [T]
            kind: of attention.

        Returns:
            queries [T, heads, D]
        """
        kv_heads, head_dim = pages.keys[layer].shape[1], pages.keys[layer].shape[3]
        heads = qkv.shape[1] // head_dim - 2 * kv_heads
        if q_norm is not None and k_norm is not None and len(q_norm) > head_dim:
            qkv, q_norm, k_norm = self.norm_heads(qkv, q_norm, k_norm, eps), None, None
        q, k, v = qkv.view(-1, heads + 2 * kv_heads, head_dim).split([heads, kv_heads, kv_heads], dim=1)
        if q_norm is not None and k_norm is not None:
            q, k = rms_norm(q, q_norm, eps), rms_norm(k, k_norm, eps)
        cos, sin = rope[positions.clamp(0, rope.shape[0] - 1)][:, None].chunk(2, dim=-1)
        q, k = _rotate(q, cos, sin, kind), _rotate(k, cos, sin, kind)
        page = pages.table[slots, positions.clamp(min=0) // PAGE].long()
        page = torch.where(positions < 0, 0, page)
        pages.write(layer, page, positions % PAGE, k, v)
        return q

    def attend_rows(
        self,
        q: Tensor,
        pages: Pages,
        layer: int,
        slots: Tensor,
        first: Tensor,
        scale: float,
        kind: AttentionKind = PLAIN,
    ) -> Tensor:
        """Causal attention of each row's next few tokens, whose keys and values are in the pages already.

        Args:
            q: [B, n, heads, D]
            pages: KV.
            layer: index in `pages`.
            slots: int64 [B]
            first: position of each row's first query; may be -1, whose output means nothing but is finite  # int64 [B]
            scale: of the scores.
            kind: of attention.

        Returns:
            [B, n, heads, D]
        """
        return self._attend(q, pages, layer, slots, first, scale, kind)

    def rope_attend(
        self,
        qkv: Tensor,
        q_norm: Tensor | None,
        k_norm: Tensor | None,
        eps: float,
        rope: Tensor,
        pages: Pages,
        layer: int,
        slots: Tensor,
        first: Tensor,
        token_slots: Tensor,
        token_positions: Tensor,
        scale: float,
        kind: AttentionKind = PLAIN,
    ) -> Tensor:
        """rope_write and attend_rows of each row's next n tokens.

        Args:
            qkv: row after row  # [B * n, (heads + 2 kv_heads) * D]
            q_norm: see rope_write.
            k_norm: likewise.
            eps: of the norms.
            rope: see rope_write.
            pages: KV.
            layer: index in `pages`.
            slots: of the rows  # int64 [B]
            first: position of each row's first token, see attend_rows  # int64 [B]
            token_slots: of each token  # int64 [B * n]
            token_positions: likewise.
            scale: of the scores.
            kind: of attention.

        Returns:
            [B * n, heads, D]
        """
        q = self.rope_write(qkv, q_norm, k_norm, eps, rope, pages, layer, token_slots, token_positions, kind)
        rows = q.view(len(slots), -1, *q.shape[1:])
        return self.attend_rows(rows, pages, layer, slots, first, scale, kind).view(q.shape)

    def attend_cascade(
        self, q: Tensor, pages: Pages, layer: int, slots: Tensor, first: Tensor, prefixes: PrefixTiles, scale: float,
        kind: AttentionKind = PLAIN,
    ) -> Tensor:  # fmt: skip
        """As attend_rows, where rows that share pages read these together, see cascade.reference."""
        return attend_cascade(q, pages, layer, slots, first, prefixes, scale, kind)

    def attend_packed(
        self, q: Tensor, pages: Pages, layer: int, tiles: Tiles, scale: float, kind: AttentionKind = PLAIN
    ) -> Tensor:
        """Causal attention of stretches of rows, packed one after the other, their KV in the pages already.

        Args:
            q: [T, heads, D]
            pages: KV.
            layer: index in `pages`.
            tiles: which tokens are whose; tokens in none of them get anything finite.
            scale: of the scores.
            kind: of attention.

        Returns:
            [T, heads, D]
        """
        out = torch.zeros_like(q)
        for slot, token, start, count in tiles.rows[:, :, None].unbind():
            if count:
                of = slice(int(token), int(token + count))
                out[of] = self._attend(q[None, of], pages, layer, slot, start, scale, kind)[0]
        return out

    def _attend(
        self, q: Tensor, pages: Pages, layer: int, slots: Tensor, first: Tensor, scale: float, kind: AttentionKind
    ) -> Tensor:
        """See attend_rows. All rows at once, over as many positions as the longest has; what no query of a row sees may be anything."""
        last = (first[:, None] + torch.arange(q.shape[1], device=q.device)).clamp(min=0)[:, None, :, None]
        extent = int(last.max()) + 1
        at = torch.arange(extent, device=q.device)
        mask = at <= last  # [B, 1, n, extent]
        unseen = ~mask[:, :, -1, :, None]
        if kind.window:
            mask &= at > last - kind.window
            unseen = ~mask.any(2)[..., None]
        table = pages.table[slots, : -(-extent // PAGE)].long()

        def of(stored: Tensor) -> Tensor:  # [B, pages, kv_heads, PAGE, D] -> [B, heads, extent, D]
            rows = stored.transpose(1, 2).flatten(2, 3)[:, :, :extent].masked_fill(unseen, 0)
            return rows.repeat_interleave(q.shape[2] // rows.shape[1], 1)

        queries, (keys, values) = q.transpose(1, 2), map(of, pages.read(layer, table, q.dtype))
        if not kind.softcap:
            out = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, scale=scale)
        else:
            scores = kind.softcap * torch.tanh(queries @ keys.transpose(2, 3) * (scale / kind.softcap))
            out = scores.masked_fill(~mask, -torch.inf).float().softmax(-1).to(values.dtype) @ values
        return out.transpose(1, 2).contiguous()


def _rotate(x: Tensor, cos: Tensor, sin: Tensor, kind: AttentionKind) -> Tensor:
    """Rotary position embedding (Su et al. 2021): pairs of numbers are rotated against each other.

    Pair i is made of numbers i and i + rotated / 2, or 2 i and 2 i + 1 where interleaved; what is beyond is paired up anyhow: its cos is 1.
    """
    if not kind.interleaved and kind.rotated in {0, x.shape[-1]}:
        a, b = x.float().chunk(2, dim=-1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(x.dtype)
    first, second = pairs(x.shape[-1], kind, x.device)
    a, b = x[..., first].float(), x[..., second].float()
    out = torch.empty_like(x)
    out[..., first], out[..., second] = (a * cos - b * sin).to(x.dtype), (b * cos + a * sin).to(x.dtype)
    return out


def pairs(head_dim: int, kind: AttentionKind, device: torch.device) -> tuple[Tensor, Tensor]:
    """Which numbers of a head are rotated against each other.  # int64 [head_dim / 2], twice"""
    rotated = kind.rotated or head_dim
    every = torch.arange(head_dim, device=device)
    if kind.interleaved:
        return every[0::2], every[1::2]
    turned, rest = every[:rotated].view(2, -1), every[rotated:].view(2, -1)
    return torch.cat([turned[0], rest[0]]), torch.cat([turned[1], rest[1]])
