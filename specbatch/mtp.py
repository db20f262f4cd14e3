"""Layers of a model that draft further tokens (multi-token prediction), as its config.json counts them; no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_COUNTS = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_layers")


def mtp_layers(config: Mapping[str, Any]) -> range:
    """Their numbers, after the model's own layers; empty where there are none, or config.json does not count them."""
    text = config.get("text_config")
    fields = text if isinstance(text, Mapping) else config
    own, more = fields.get("num_hidden_layers"), next((fields[key] for key in _COUNTS if fields.get(key)), 0)
    return range(own, own + more) if isinstance(own, int) and isinstance(more, int) else range(0)
