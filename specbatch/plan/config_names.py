"""The names that families give to the same number of a config.json, made one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# The common name, and the others that transformers' own configs have for it.
_ALIASES = {
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers", "decoder_layers"),
    "hidden_size": ("n_embd", "d_model", "n_embed"),
    "num_attention_heads": ("n_head", "n_heads", "num_heads", "attention_heads", "decoder_attention_heads"),
    "num_key_value_heads": ("num_kv_heads", "n_head_kv", "multi_query_group_num"),
    "intermediate_size": ("ffn_dim", "decoder_ffn_dim", "n_inner", "d_ff", "ffn_hidden_size", "inner_hidden_size"),
    "max_position_embeddings": ("n_positions", "n_ctx", "max_seq_len", "max_sequence_length"),
    "num_experts": ("num_local_experts", "n_routed_experts", "moe_num_experts"),
    "num_experts_per_tok": ("num_experts_per_token", "moe_k", "moe_topk", "moe_top_k", "top_k_experts"),
}


def common_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with numbers under their common names; of a model of text and more, the text's config alone."""
    text = config.get("text_config")
    plain = dict(text) if isinstance(text, Mapping) else dict(config)
    for name, others in _ALIASES.items():
        if plain.get(name) is None:
            found = next((plain[other] for other in others if plain.get(other) is not None), None)
            if found is not None:
                plain[name] = found
    if plain.get("intermediate_size") is None and isinstance(plain.get("hidden_size"), int):
        plain["intermediate_size"] = 4 * plain["hidden_size"]  # GPT-2's n_inner is null
    return plain
