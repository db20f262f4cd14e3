"""Layers whose past is not keys and values by position, which the native engine refuses: by config.json, before anything is downloaded or run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# As engine/general/support.py has them, which reads transformers' configs: those name every layer's kind, files of the hub do not always.
_PLAIN = {"full_attention", "sliding_attention", "chunked_attention", "attention", "mlp", "moe"}
_WORDS = {"hybrid": "linear attention", "conv": "convolutions", "mamba": "Mamba", "recurrent": "a recurrence"}
_FIELDS = {
    "linear_num_value_heads": "linear attention",  # Qwen3-Next, Qwen3.5
    "mamba_d_state": "Mamba",  # Jamba, Bamba, Zamba
    "mamba_d_ssm": "Mamba",  # Falcon-H1
    "mamba_num_heads": "Mamba",  # Nemotron-H
    "conv_L_cache": "convolutions",  # LFM2
    "lru_width": "a recurrence",  # RecurrentGemma
}


def foreign_layers(fields: Mapping[str, Any]) -> str:
    """What some layers have in place of attention, in words; "" where the config shows nothing.

    Args:
        fields: of the text model's config.json.
    """
    kinds = fields.get("layer_types") or fields.get("layers_block_type")
    if isinstance(kinds, list):
        foreign = dict.fromkeys(kind for kind in kinds if isinstance(kind, str) and kind not in _PLAIN)
        return " and ".join(_WORDS.get(kind, kind.replace("_", " ")) for kind in foreign)
    return next((words for field, words in _FIELDS.items() if fields.get(field)), "")
