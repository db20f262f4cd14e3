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
    half, tables = description.head_dim // 2, {}
    for layer in description.layers:
        if layer.rope in tables:
            continue
        if layer.rope is None:
            tables[layer.rope] = torch.cat([torch.ones(1, half), torch.zeros(1, half)], dim=-1)
            continue
        rotated = (layer.attention.rotated or description.head_dim) // 2
        cos, sin = _angles(rotary, layer.rope, positions)
        turned = [part[:, :rotated] for part in (cos, sin)]
        rest = cos.new_ones(len(positions), half - rotated), cos.new_zeros(len(positions), half - rotated)
        tables[layer.rope] = torch.cat([turned[0], rest[0], turned[1], rest[1]], dim=-1).float()
    return tables


def _angles(rotary: Any, kind: str, positions: range) -> tuple[Tensor, Tensor]:
    device = next(rotary.buffers()).device
    at = torch.arange(positions.start, positions.stop, device=device)[None]
    names = {"layer_type": kind} if "layer_type" in inspect.signature(type(rotary).forward).parameters else {}
    cos, sin = rotary(torch.empty(1, 1, dtype=torch.float32, device=device), at, **names)
    return cos[0], sin[0]
