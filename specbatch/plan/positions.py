"""How many positions a model was made for, as its config.json says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NAMES = ("max_position_embeddings", "n_positions")


def max_positions(config: Mapping[str, Any]) -> int | None:
    """The tokens of a row that the model was made for; None where its config does not say.

    Dynamic NTK reaches beyond max_position_embeddings, which for it is the length before stretching, by its factor (as vLLM counts it).
    """
    text = config.get("text_config")
    for part in (config, text if isinstance(text, Mapping) else {}):
        for name in _NAMES:
            value = part.get(name)
            if type(value) is int and value > 0:
                return int(value * _dynamic_factor(part.get("rope_parameters") or part.get("rope_scaling")))
    return None


def _dynamic_factor(rope: object) -> float:
    if not isinstance(rope, Mapping):
        return 1.0
    factor: Any = rope.get("factor")
    dynamic = rope.get("rope_type", rope.get("type")) == "dynamic"
    known = isinstance(factor, int | float) and not isinstance(factor, bool)
    return max(1.0, float(factor)) if dynamic and known else 1.0
