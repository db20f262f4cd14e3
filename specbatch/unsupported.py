"""What the native engine cannot run of a model, by its config.json: plan and validate say it before anything is downloaded, a run before it loads. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Kinds of layers (layer_types) whose keys lie by position, under a mask that transformers describes by index, or that have no keys.
PLAIN_KINDS = {"full_attention", "sliding_attention", "chunked_attention", "attention", "mlp", "moe"}
_BESIDE = " beside attention"
_LINEAR = {"linear_attention": "", "hybrid": _BESIDE, "hybrid_sliding": _BESIDE}
_WORDS = {"conv": "convolutions", "mamba": "Mamba", "recurrent": "a recurrence"}
_MAMBA = ("mamba_d_state", "mamba_d_ssm", "mamba_num_heads")  # of Jamba, Bamba, Zamba; Falcon-H1; Nemotron-H
_ALL_MAMBA = {"mamba", "mamba2", "falcon_mamba"}
# Of files that do not name every layer's kind, as transformers' configs do.
_FIELDS = {
    "linear_num_value_heads": "linear attention",  # Qwen3-Next, Qwen3.5
    **dict.fromkeys(_MAMBA, "Mamba"),
    "conv_L_cache": "convolutions",  # LFM2
    "lru_width": "a recurrence",  # RecurrentGemma
}
_STATE = "a recurrent state in place of keys and values by position"
_OWN_WAY = "attention that does not go through transformers' attention interface"
_ALIBI = "alibi (attention scores biased by distance)"
_SINKS = "attention sinks"
# What a model_type has whatever else its config says; engine/general/support.py finds the same in transformers' classes.
_TYPES = {
    **dict.fromkeys(("gpt_oss", "granite_swa", "granitemoe_swa", "mimo_v2_flash"), _SINKS),
    "doge": "an attention mask of its own making",
    **dict.fromkeys(("bloom", "mpt"), _ALIBI),
    **dict.fromkeys(("rwkv", "xlstm"), _STATE),
    **dict.fromkeys(_ALL_MAMBA, "Mamba in place of attention in every layer"),
    **dict.fromkeys(("codegen", "cpmant", "falcon", "gpt_neo", "gpt_neox_japanese", "gptj", "openai-gpt"), _OWN_WAY),
    **dict.fromkeys(("reformer", "rembert", "roformer", "trocr", "xglm", "xlm", "xlnet"), _OWN_WAY),
    **dict.fromkeys(("big_bird", "megatron-bert"), _OWN_WAY),
}


def unsupported(fields: Mapping[str, Any]) -> str:
    """What keeps a model off the native engine: "Mamba in place of attention in some layers"; "" where the config shows nothing.

    Args:
        fields: of the text model's config.json.
    """
    if foreign := _foreign_layers(fields):
        return f"{foreign} in place of attention in some layers"
    return of_type(fields) or ("sparse attention (index_topk)" if fields.get("index_topk") else "")


def of_type(fields: Mapping[str, Any]) -> str:
    """As unsupported, by the model_type alone."""
    if fields.get("model_type") == "falcon" and fields.get("alibi"):
        return _ALIBI
    return _TYPES.get(str(fields.get("model_type")), "")


def layer_words(kind: str, fields: Mapping[str, Any]) -> str:
    """What layers of a kind have: transformers calls Mamba linear attention, too."""
    if kind in _LINEAR:
        mamba = fields.get("model_type") in _ALL_MAMBA or any(fields.get(field) for field in _MAMBA)
        return f"{'Mamba' if mamba else 'linear attention'}{_LINEAR[kind]}"
    return _WORDS.get(kind, kind.replace("_", " "))


def _foreign_layers(fields: Mapping[str, Any]) -> str:
    kinds = fields.get("layer_types") or fields.get("layers_block_type")
    if isinstance(kinds, list):
        foreign = dict.fromkeys(kind for kind in kinds if isinstance(kind, str) and kind not in PLAIN_KINDS)
        return " and ".join(dict.fromkeys(layer_words(kind, fields).removesuffix(_BESIDE) for kind in foreign))
    return next((words for field, words in _FIELDS.items() if fields.get(field)), "")
