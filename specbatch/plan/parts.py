"""A model's parts as counted in the model itself, where no formula for its family is at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class LayerParts:
    """One layer in numbers (not bytes)."""

    fixed: int  # parameters that every token runs through
    experts: int  # parameters of all its experts; 0 in a dense layer
    kv: int  # keys and values of one token


@dataclass(frozen=True, slots=True)
class Parts:
    """All of a model in numbers, and the names of its modules in the order of a forward.

    The modules of `before` stand where the first layer does, those of `after` where the last does.
    """

    layers: tuple[LayerParts, ...]
    embedding: int  # parameters of the token embedding
    head: int  # parameters that the head reads a step; where tied, the embedding's
    before: int  # parameters of all else that stands with the first layer: positions, projections, other senses
    after: int  # the last norm, and what else follows the layers
    num_heads: int
    head_dim: int
    hidden_size: int
    inner_size: int  # width of the MLP, or of one expert
    vocab_size: int
    num_experts: int
    experts_per_token: int
    tied: bool
    max_positions: int | None
    sliding_window: bool
    modules_before: tuple[str, ...]
    layer_prefix: str  # "model.layers": layer i is model.layers.i
    modules_after: tuple[str, ...]
    head_module: str
    kv_counted: bool  # False: keys and values by the config's numbers, because no forward could be traced


# Counts a model from its parsed config.json, or from the .gguf file it was read of; None where it cannot.
Counter = Callable[[Mapping[str, Any], Path | None], Parts | None]
