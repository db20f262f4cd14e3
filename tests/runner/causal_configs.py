"""Tiny configs of transformers' causal language models, by model type."""

from __future__ import annotations

from typing import Any

_COMMON: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "tie_word_embeddings": False,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
_MOE: dict[str, Any] = {"moe_intermediate_size": 40, "num_experts_per_tok": 2}
_MLA: dict[str, Any] = {
    "num_key_value_heads": 4,
    "head_dim": ...,
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
}
_PLAIN = [
    "apertus",
    "arcee",
    "bitnet",
    "cohere",
    "cohere2",
    "diffllama",
    "doge",
    "ernie4_5",
    "exaone4",
    "gemma",
    "gemma2",
    "gemma3_text",
    "glm",
    "glm4",
    "granite",
    "granite_swa",
    "helium",
    "hyperclovax",
    "hunyuan_v1_dense",
    "jais2",
    "llama",
    "ministral",
    "ministral3",
    "mistral",
    "nanochat",
    "nemotron",
    "olmo",
    "olmo2",
    "olmo3",
    "persimmon",
    "phi",
    "phi3",
    "qwen2",
    "qwen3",
    "seed_oss",
    "smollm3",
    "stablelm",
    "starcoder2",
    "vaultgemma",
]
_SPECIAL: dict[str, dict[str, Any]] = {
    "afmoe": {**_MOE, "num_experts": 4, "num_dense_layers": 1},
    "cohere2_moe": {**_MOE, "num_experts": 4},
    "deepseek_v2": {**_MOE, **_MLA, "n_routed_experts": 4, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1},
    "deepseek_v3": {**_MOE, **_MLA, "n_routed_experts": 4, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1},
    "dots1": {
        **_MOE,
        "n_shared_experts": 1,
        "n_routed_experts": 4,
        "n_group": 1,
        "topk_group": 1,
        "first_k_dense_replace": 1,
    },
    "ernie4_5_moe": {"moe_intermediate_size": 40, "moe_k": 2, "moe_num_experts": 4},
    "exaone_moe": {**_MOE, "num_experts": 4, "n_group": 1, "topk_group": 1},
    "flex_olmo": {**_MOE, "num_experts": 4},
    "glm4_moe": {**_MOE, "n_routed_experts": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1},
    "glm4_moe_lite": {**_MOE, **_MLA, "n_routed_experts": 4, "n_group": 1, "topk_group": 1},
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "granitemoe": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "granitemoeshared": {"num_local_experts": 4, "num_experts_per_tok": 2, "shared_intermediate_size": 32},
    "hunyuan_v1_moe": {"num_experts": 4, "moe_topk": 2},
    "llama4_text": {"num_local_experts": 4, "intermediate_size_mlp": 80},
    "minicpm3": {**_MLA},
    "minimax_m2": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2},
    "phimoe": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen2_moe": {**_MOE, "num_experts": 4, "shared_expert_intermediate_size": 56},
    "qwen3_moe": {**_MOE, "num_experts": 4, "mlp_only_layers": [0]},
    "solar_open": {**_MOE, "n_routed_experts": 4, "n_group": 1, "topk_group": 1},
    "cwm": {"bos_token_id": 1, "eos_token_id": 2},
    "modernbert-decoder": {
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "cls_token_id": 1,
        "sep_token_id": 2,
    },
    "youtu": {**_MLA},
    "biogpt": {},
    "bloom": {"n_layer": 3, "n_head": 4},
    "codegen": {"n_embd": 64, "n_layer": 3, "n_head": 4, "rotary_dim": 8, "n_positions": 128},
    "falcon": {"ffn_hidden_size": 96, "head_dim": ...},
    "gpt2": {"n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 128},
    "gpt_bigcode": {"n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 128},
    "gpt_neo": {"num_layers": 3, "num_heads": 4, "attention_types": [[["global", "local", "global"], 1]]},
    "gpt_neox": {},
    "gptj": {"n_embd": 64, "n_layer": 3, "n_head": 4, "rotary_dim": 8, "n_positions": 128},
    "mpt": {"d_model": 64, "n_layers": 3, "n_heads": 4},
    "opt": {"ffn_dim": 96, "word_embed_proj_dim": 32, "pad_token_id": 0},
    "xglm": {"d_model": 64, "num_layers": 3, "attention_heads": 4, "ffn_dim": 96},
    "trocr": {"d_model": 64, "decoder_layers": 3, "decoder_attention_heads": 4, "decoder_ffn_dim": 96},
}
_OWN_NAMES = {"bloom", "codegen", "gpt2", "gpt_bigcode", "gpt_neo", "gptj", "mpt", "xglm", "trocr"}

TYPES = sorted([*_PLAIN, *_SPECIAL])


def tiny_config(kind: str) -> dict[str, Any]:
    """A config.json of three small layers."""
    common = dict(_COMMON)
    if kind in _OWN_NAMES:
        for name in (
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
            "head_dim",
        ):
            del common[name]
    plain = {"model_type": kind, **common, **_SPECIAL.get(kind, {})}
    return {name: value for name, value in plain.items() if value is not ...}  # its own default
