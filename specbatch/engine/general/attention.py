"""Attention over ragged slots, plugged into transformers' own models through its attention and mask interfaces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from specbatch.engine.general.cache import SlotView
from specbatch.engine.general.slot_write import kernels

SLOT_ATTENTION = "specbatch"  # the name under which transformers finds slot_attention and slot_mask

# What some architectures add to the scores; silently dropping one would give another model's text.
_ADDITIONS = {
    "s_aux": "attention sinks",
    "position_bias": "a position bias on its attention scores",
    "alibi": "alibi",
    "indices": "sparse attention",
    "block_indices": "sparse attention",
}

_view: ContextVar[SlotView] = ContextVar("view")  # of the forward that is running; replicas run in threads of their own


class UnsupportedAttentionError(Exception):
    """A layer asks for what slot_attention cannot give: "attention sinks"."""


@contextmanager
def over(view: SlotView) -> Iterator[None]:
    """Forwards inside use this view."""
    token = _view.set(view)
    try:
        with view.attending():
            yield
    finally:
        _view.reset(token)


def slot_mask(*, mask_function: Callable[..., Tensor], device: torch.device, **_kwargs: object) -> Tensor:
    """Any mask that transformers describes by index (causal, sliding, chunked), over the positions of the slots.

    Returns:
        bool [n, 1, tokens, extent or tokens]
    """
    return _view.get().mask(device, mask_function)


def slot_attention(
    _module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Scaled dot-product attention in which every row has its own length.

    Args:
        _module: the calling attention module.
        query: [n, heads, tokens, head_dim]
        key: from SlotLayer.update  # [n, kv_heads, extent, head_dim]
        value: [n, kv_heads, extent, value_dim]
        attention_mask: from slot_mask; windows and chunks are in it, as they are for transformers' own sdpa.
        scaling: of the scores; None: 1 / sqrt(head_dim).
        softcap: scores become softcap * tanh(score / softcap).
        **kwargs: whatever else the architecture passes.

    Returns:
        [n, tokens, heads, value_dim], and no attention weights

    Raises:
        UnsupportedAttentionError: the layer adds to the scores, or brings a mask of its own making.
    """
    for name, what in _ADDITIONS.items():
        if kwargs.get(name) is not None:
            raise UnsupportedAttentionError(what)
    view = _view.get()
    if attention_mask is None or attention_mask.dtype != torch.bool:
        raise UnsupportedAttentionError("an attention mask of its own making")
    if view.calls is not None:
        view.calls.append(attention_mask)
    few = kernels(query.device)
    write = view.take_write(key)
    if few is not None and view.extent is not None and softcap is None and few.takes(query, key, value):
        scale = query.shape[3] ** -0.5 if scaling is None else scaling
        return few.attend(query, key, value, attention_mask.to(query.device), scale, write), None
    if write is not None:
        write.do()
    batch, heads, tokens, head_dim = query.shape
    kv_heads = key.shape[1]
    groups = heads // kv_heads
    # Grouped-query attention without copying KV: the queries that share a KV head become more queries of that head.
    packed = query.reshape(batch, kv_heads, groups * tokens, head_dim)
    mask = attention_mask.to(query.device)
    if groups > 1:
        mask = mask.expand(batch, groups, tokens, mask.shape[-1]).reshape(batch, 1, groups * tokens, -1)
    if softcap is None:
        out = F.scaled_dot_product_attention(packed, key, value, attn_mask=mask, scale=scaling)
    else:
        scores = packed @ key.transpose(2, 3) * (head_dim**-0.5 if scaling is None else scaling)
        capped = (softcap * torch.tanh(scores / softcap)).masked_fill(~mask, torch.finfo(scores.dtype).min)
        out = capped.softmax(-1, dtype=torch.float32).to(value.dtype) @ value
    return out.reshape(batch, heads, tokens, -1).transpose(1, 2).contiguous(), None


def register() -> None:
    """Makes attention and masks known to transformers; calling it twice is harmless."""
    AttentionInterface.register(SLOT_ATTENTION, slot_attention)
    AttentionMaskInterface.register(SLOT_ATTENTION, slot_mask)
