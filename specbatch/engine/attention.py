"""Attention over ragged slots, plugged into transformers' own models through its attention interface."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

from specbatch.engine.cache import SlotView
from specbatch.errors import ModelError

SLOT_ATTENTION = "specbatch"  # the name under which transformers finds slot_attention

# What some architectures add to the scores; silently dropping one would give another model's text.
_UNSUPPORTED = ("softcap", "s_aux", "position_bias", "alibi")


def slot_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Scaled dot-product attention in which every row has its own length.

    Args:
        module: the calling attention module.
        query: [n, heads, tokens, head_dim]
        key: from SlotLayer.update  # [n, kv_heads, extent, head_dim]
        value: [n, kv_heads, extent, head_dim]
        attention_mask: unused; the mask comes from the `slot_view` among kwargs.
        scaling: of the scores; None: 1 / sqrt(head_dim).
        sliding_window: the layer sees only this many positions back.
        **kwargs: `slot_view`, and whatever else the architecture passes.

    Returns:
        [n, tokens, heads, head_dim], and no attention weights
    """
    del attention_mask
    view: SlotView | None = kwargs.get("slot_view")
    foreign = [name for name in _UNSUPPORTED if kwargs.get(name) is not None]
    if view is None or foreign:
        what = f"its attention uses {', '.join(foreign)}" if foreign else "it does not pass keyword arguments on"
        raise ModelError(
            f"{type(module).__name__} cannot run on the slot cache: {what}",
            remedy="use a model of a plain decoder architecture (Llama, Qwen2, Qwen3, Mistral, ...)",
        )
    batch, heads, tokens, head_dim = query.shape
    kv_heads = key.shape[1]
    groups = heads // kv_heads
    mask = view.mask(query.device, sliding_window)
    # Grouped-query attention without copying KV: the queries that share a KV head become more queries of that head.
    packed = query.reshape(batch, kv_heads, groups * tokens, head_dim)
    if groups > 1:
        mask = mask.expand(batch, groups, tokens, mask.shape[-1]).reshape(batch, 1, groups * tokens, -1)
    out = F.scaled_dot_product_attention(packed, key, value, attn_mask=mask, scale=scaling)
    return out.reshape(batch, heads, tokens, -1).transpose(1, 2), None


def register() -> None:
    """Makes the attention known to transformers; calling it twice is harmless."""
    AttentionInterface.register(SLOT_ATTENTION, slot_attention)
