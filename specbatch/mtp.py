"""Layers of a model that draft further tokens (multi-token prediction), as its config.json counts them; no torch.

MiMo's is a head like EAGLE-3's (specbatch/eagle3.py) and drafts as one: it reads the target's last states, after the model's norm, in place of those of three layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from specbatch.eagle3 import Eagle3Config

MIMO = "mimo"  # its model_type
_COUNTS = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_layers")


def mtp_layers(config: Mapping[str, Any]) -> range:
    """Their numbers, after the model's own layers; empty where there are none, or config.json does not count them."""
    text = config.get("text_config")
    fields = text if isinstance(text, Mapping) else config
    own, more = fields.get("num_hidden_layers"), next((fields[key] for key in _COUNTS if fields.get(key)), 0)
    return range(own, own + more) if isinstance(own, int) and isinstance(more, int) else range(0)


def mtp_head(config: Mapping[str, Any], name: str) -> Eagle3Config | None:
    """The first of a model's layers for drafting, as a head: one forward of it for each token of a chain; None where there is none that can run.

    Args:
        config: of the target, parsed.
        name: of the model, as shown to people.

    Raises:
        ModelError: a number is missing or none.
    """
    if not mtp_layers(config) or config.get("model_type") != MIMO:
        return None
    layer = {**config, "model_type": "llama", "num_hidden_layers": 1, "attention_bias": True}
    return replace(Eagle3Config.of(layer, name), layer_ids=(mtp_layers(config).start,), mtp=True)
