"""A transformers config.json, read into a ModelShape."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from specbatch.errors import ModelError
from specbatch.plan.families import FAMILIES, UNKNOWN_FAMILY, Family
from specbatch.plan.shape import ModelShape

_HEAD = re.compile(r"(eagle|eagle3|medusa)$|^(eagle|eagle3|medusa)(model|llama|qwen|draft)", re.IGNORECASE)
_DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def shape_from_config(config: Mapping[str, Any], name: str, dtype: str = "auto", *, source: str = "") -> ModelShape:
    """The shape that a config.json describes.

    Args:
        config: the parsed config.json.
        name: how to call the model in messages and trees.
        dtype: "bfloat16", "float16", "float32", or "auto": what the config says, else bfloat16.
        source: where the config was read, for people.

    Raises:
        ModelError: a field is missing or not a number, or the architecture is of a kind that cannot be planned.
    """
    architecture = str(config.get("model_type", ""))
    family = FAMILIES.get(architecture, UNKNOWN_FAMILY)
    _refuse_what_is_no_causal_lm(config, name)
    hidden, heads = _number(config, "hidden_size", name), _number(config, "num_attention_heads", name)
    experts, experts_per_token, inner = _experts(config, family, name)
    attention_bias, mlp_bias = bool(config.get("attention_bias", False)), bool(config.get("mlp_bias", False))
    positions = config.get("max_position_embeddings")
    return ModelShape(
        name=name,
        architecture=architecture or "unknown",
        num_layers=_number(config, "num_hidden_layers", name),
        hidden_size=hidden,
        num_heads=heads,
        num_kv_heads=_number(config, "num_key_value_heads", name, default=heads),
        head_dim=_number(config, "head_dim", name, default=family.head_dim_by_default or hidden // heads),
        intermediate_size=inner,
        vocab_size=_number(config, "vocab_size", name),
        tied=bool(config.get("tie_word_embeddings", family.tied_by_default)),
        dtype_bytes=_dtype_bytes(config, name, dtype),
        qkv_bias=attention_bias if family.qkv_bias is None else family.qkv_bias,
        output_bias=attention_bias if family.output_bias is None else family.output_bias,
        mlp_bias=mlp_bias if family.mlp_bias is None else family.mlp_bias,
        qk_norm=family.qk_norm,
        norms_per_layer=family.norms_per_layer,
        num_experts=experts,
        experts_per_token=experts_per_token,
        max_positions=positions if isinstance(positions, int) else None,
        sliding_window=_slides(config, architecture),
        known_layout=family is not UNKNOWN_FAMILY and not _has_irregular_layers(config),
        source=source,
    )


def _refuse_what_is_no_causal_lm(config: Mapping[str, Any], name: str) -> None:
    if "text_config" in config:
        raise ModelError(
            "config.json describes a model of text and something else (text_config), which is not supported",
            where=name,
            remedy="name a text-only causal language model",
        )
    if any(_HEAD.search(str(kind)) for kind in _listed(config.get("architectures"))) or "speculators_config" in config:
        raise ModelError(
            "config.json describes an EAGLE or Medusa head, which drafts from the target's hidden states and is no language model",
            where=name,
            remedy="use a small model of the target's family as the drafter, or `drafter: {method: ngram}`",
        )
    if config.get("is_encoder_decoder"):
        raise ModelError(
            "config.json describes an encoder-decoder, which cannot continue a prompt token by token alone",
            where=name,
            remedy="name a causal language model (decoder only)",
        )


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _number(config: Mapping[str, Any], key: str, name: str, *, default: int | None = None) -> int:
    value = config.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        known = ", ".join(sorted(FAMILIES))
        found = "is missing" if value is None else f"is {value!r}, not a positive whole number"
        raise ModelError(
            f"config.json (model_type {config.get('model_type')!r}): {key} {found}",
            where=name,
            remedy=f"use a model that is built like Llama; known model types: {known}",
        )
    return value


def _experts(config: Mapping[str, Any], family: Family, name: str) -> tuple[int, int, int]:
    """How many experts, how many of them a token uses, and the width of one (or of the dense MLP)."""
    if family.expert_keys is None:
        for key in ("num_experts", "num_local_experts", "n_routed_experts"):
            if config.get(key):
                known = ", ".join(kind for kind, traits in FAMILIES.items() if traits.expert_keys)
                raise ModelError(
                    f"model_type {config.get('model_type')!r} is a mixture of experts of a kind that is not known",
                    where=name,
                    remedy=f"of mixtures of experts, these model types are known: {known}",
                )
        return 0, 0, _number(config, "intermediate_size", name)
    count_key, width_key = family.expert_keys
    return (
        _number(config, count_key, name),
        _number(config, "num_experts_per_tok", name),
        _number(config, width_key, name),
    )


def _slides(config: Mapping[str, Any], architecture: str) -> bool:
    """Whether some layers look back only so far."""
    kinds = config.get("layer_types")
    if isinstance(kinds, list):
        return any(kind != "full_attention" for kind in kinds)
    if architecture == "mistral":
        return config.get("sliding_window", 4096) is not None  # transformers takes 4096 when config.json does not say
    return bool(config.get("use_sliding_window", False))


def _has_irregular_layers(config: Mapping[str, Any]) -> bool:
    """Whether some layers of a mixture of experts are dense: then counts are estimates."""
    return bool(config.get("mlp_only_layers")) or config.get("decoder_sparse_step", 1) != 1


def _dtype_bytes(config: Mapping[str, Any], name: str, dtype: str) -> int:
    if dtype == "auto":
        dtype = str(config.get("dtype") or config.get("torch_dtype") or "bfloat16")
    if dtype not in _DTYPE_BYTES:
        raise ModelError(
            f"dtype {dtype!r} is not one that weights are kept in",
            where=name,
            remedy=f"set the model's dtype to one of {', '.join(_DTYPE_BYTES)}",
        )
    return _DTYPE_BYTES[dtype]
