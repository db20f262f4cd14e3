"""Cascade attention in plain PyTorch: what the kernels must give, in the same two passes."""

from __future__ import annotations

import torch
from torch import Tensor

from specbatch.engine.graphs.cascade.tiles import PrefixTiles
from specbatch.engine.graphs.describe.description import AttentionKind
from specbatch.engine.graphs.kv.paging import PAGE, Pages


def attend_cascade(
    q: Tensor, pages: Pages, layer: int, slots: Tensor, first: Tensor, prefixes: PrefixTiles, scale: float, kind: AttentionKind
) -> Tensor:  # fmt: skip
    """As TorchOps.attend_rows: of each tile one pass over what its rows share, of each row one over its own pages, merged by their log-sum-exp.

    Args:
        q: [B, n, heads, D]
        pages: KV.
        layer: index in `pages`.
        slots: int64 [B]
        first: position of each row's first query; beyond its shared pages  # int64 [B]
        prefixes: of the rows.
        scale: of the scores.
        kind: of attention, without a window.

    Returns:
        [B, n, heads, D]
    """
    rows, n = q.shape[:2]
    out, sums = torch.zeros_like(q, dtype=torch.float32), q.new_full(q.shape[:3], -torch.inf, dtype=torch.float32)
    for slot, count, *places in prefixes.tiles.tolist():
        for place in places if count else ():
            if place >= 0:
                out[place], sums[place] = _part(q[place], pages, layer, slot, 0, count * PAGE, None, scale, kind)
    for place, (slot, start, shared) in enumerate(
        zip(slots.tolist(), first.tolist(), prefixes.shared.tolist(), strict=True)
    ):
        at = torch.arange(start, start + n, device=q.device).clamp(min=0)
        own, own_sums = _part(q[place], pages, layer, slot, shared * PAGE, int(at[-1]) + 1, at, scale, kind)
        both = torch.logaddexp(sums[place], own_sums)
        out[place] = out[place] * (sums[place] - both).exp()[..., None] + own * (own_sums - both).exp()[..., None]
    assert rows == len(slots)
    return out.to(q.dtype)


def _part(
    q: Tensor, pages: Pages, layer: int, slot: int, low: int, high: int, at: Tensor | None, scale: float, kind: AttentionKind
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Attention to the positions [low, high) of a slot, up to each query's own, and the log-sum-exp.  # float32 [n, heads, D], [n, heads]"""
    table = pages.table[slot, low // PAGE : -(-high // PAGE)].long()
    of_pages = pages.read(layer, table, torch.float32)
    keys, values = (kv.transpose(0, 1).flatten(1, 2)[:, : high - low].float() for kv in of_pages)
    groups = q.shape[1] // keys.shape[0]
    keys, values = keys.repeat_interleave(groups, 0), values.repeat_interleave(groups, 0)
    scores = torch.einsum("nhd,hld->nhl", q.float(), keys) * scale
    if kind.softcap:
        scores = kind.softcap * torch.tanh(scores / kind.softcap)
    if at is not None:
        hidden = torch.arange(low, high, device=q.device) > at[:, None]
        scores = scores.masked_fill(hidden[:, None], -torch.inf)
    sums = scores.logsumexp(-1)
    return torch.einsum("nhl,hld->nhd", (scores - sums[..., None]).exp(), values), sums
