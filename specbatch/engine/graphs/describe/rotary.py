"""The rotary tables of a model, as its own module computes them."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from specbatch.engine.graphs.describe.description import DecoderDescription


@torch.no_grad()
def rope_tables(rotary: Any, description: DecoderDescription, positions: range) -> dict[str | None, Tensor]:
    """The model's own cos and sin of every position, scaling included, of each kind of layer.

    What a head has beyond what is rotated is turned by nothing: cos 1, sin 0. So is all of it where positions are not rotated, in a
    table of one line, which is every position's.

    Args:
        rotary: the model's rotary embedding.
        description: of the model.
        positions: one line each.

    Returns:
        by LayerDescription.rope: cos, then sin  # float32 [positions, head_dim]
    """
    tables: dict[str | None, Tensor] = {}
    for layer in description.layers:
        if layer.rope not in tables:
            tables[layer.rope] = rope_table(
                rotary, description.head_dim, positions, layer.rope, layer.attention.rotated
            )
    return tables


@torch.no_grad()
def rope_table(rotary: Any, head_dim: int, positions: range, kind: str | None = "", rotated: int = 0) -> Tensor:
    """One of rope_tables.  # float32 [positions, head_dim]"""
    half, turned = head_dim // 2, (rotated or head_dim) // 2
    if kind is None:
        return torch.cat([torch.ones(1, half), torch.zeros(1, half)], dim=-1)
    cos, sin = _angles(rotary, kind, positions)
    rest = cos.new_ones(len(positions), half - turned), cos.new_zeros(len(positions), half - turned)
    return torch.cat([cos[:, :turned], rest[0], sin[:, :turned], rest[1]], dim=-1).float()


def _angles(rotary: Any, kind: str, positions: range) -> tuple[Tensor, Tensor]:
    device = next(rotary.buffers()).device
    at = torch.arange(positions.start, positions.stop, device=device)[None]
    names = {"layer_type": kind} if "layer_type" in inspect.signature(type(rotary).forward).parameters else {}
    cos, sin = rotary(torch.empty(1, 1, dtype=torch.float32, device=device), at, **names)
    return cos[0], sin[0]
