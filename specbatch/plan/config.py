"""A transformers config.json, read into a ModelShape."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from reprlib import repr as short
from typing import Any

from specbatch.errors import ModelError
from specbatch.plan.config_names import common_names
from specbatch.plan.families import FAMILIES, UNKNOWN_FAMILY, Family
from specbatch.plan.parts import Counter, Parts
from specbatch.plan.positions import max_positions
from specbatch.plan.shape import ModelShape

_HEAD = re.compile(r"(eagle|eagle3|medusa)$|^(eagle|eagle3|medusa)(model|llama|qwen|draft)", re.IGNORECASE)
_MOST = {
    "num_hidden_layers": 2_000,
    "num_experts": 20_000,
}  # far above any model; to build what a broken config says could take hours
_DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def shape_from_config(
    config: Mapping[str, Any],
    name: str,
    dtype: str = "auto",
    *,
    source: str = "",
    count: Counter | None = None,
    path: Path | None = None,
) -> ModelShape:
    """The shape that a config.json describes: by formula for known families, else counted, else estimated.

    Args:
        config: the parsed config.json.
        name: how to call the model in messages and trees.
        dtype: "bfloat16", "float16", "float32", or "auto": what the config says, else bfloat16.
        source: where the config was read, for people.
        count: counts the parts of models of other families; None where nothing on this machine can.
        path: the .gguf file that the config was read of, for `count`.

    Raises:
        ModelError: a field is missing or not a number, or the architecture is of a kind that cannot be planned.
    """
    _refuse_what_is_no_causal_lm(config, name)
    size = _dtype_bytes(config, name, dtype)
    architecture = str(config.get("model_type", ""))
    family = FAMILIES.get(architecture, UNKNOWN_FAMILY)
    known = family is not UNKNOWN_FAMILY and not _has_irregular_layers(config) and not _is_composite(config)
    plain = common_names(config)
    for key, most in _MOST.items():
        _refuse_more_than(plain, key, most, name)
    parts = count(config, path) if count is not None and not known else None
    if parts is not None:
        return _counted(parts, name, architecture, size, source)
    hidden, heads = _number(plain, "hidden_size", name), _number(plain, "num_attention_heads", name)
    experts, experts_per_token, inner = _experts(plain, family, name)
    attention_bias, mlp_bias = bool(plain.get("attention_bias", False)), bool(plain.get("mlp_bias", False))
    return ModelShape(
        name=name,
        architecture=architecture or "unknown",
        num_layers=_number(plain, "num_hidden_layers", name),
        hidden_size=hidden,
        num_heads=heads,
        num_kv_heads=_number(plain, "num_key_value_heads", name, default=heads),
        head_dim=_number(plain, "head_dim", name, default=family.head_dim_by_default or max(1, hidden // heads)),
        intermediate_size=inner,
        vocab_size=_number(plain, "vocab_size", name),
        tied=bool(plain.get("tie_word_embeddings", family.tied_by_default)),
        dtype_bytes=size,
        qkv_bias=attention_bias if family.qkv_bias is None else family.qkv_bias,
        output_bias=attention_bias if family.output_bias is None else family.output_bias,
        mlp_bias=mlp_bias if family.mlp_bias is None else family.mlp_bias,
        qk_norm=family.qk_norm,
        norms_per_layer=family.norms_per_layer,
        num_experts=experts,
        experts_per_token=experts_per_token,
        max_positions=max_positions(plain),
        sliding_window=_slides(plain, architecture),
        known_layout=known,
        source=source,
    )


def _counted(parts: Parts, name: str, architecture: str, dtype_bytes: int, source: str) -> ModelShape:
    return ModelShape(
        name=name,
        architecture=architecture,
        num_layers=len(parts.layers),
        hidden_size=parts.hidden_size,
        num_heads=parts.num_heads,
        num_kv_heads=parts.num_heads,
        head_dim=parts.head_dim,
        intermediate_size=parts.inner_size,
        vocab_size=parts.vocab_size,
        tied=parts.tied,
        dtype_bytes=dtype_bytes,
        num_experts=parts.num_experts,
        experts_per_token=parts.experts_per_token,
        max_positions=parts.max_positions,
        sliding_window=parts.sliding_window,
        source=f"{source}, counted in the model itself" if source else "counted in the model itself",
        parts=parts,
    )


def _refuse_what_is_no_causal_lm(config: Mapping[str, Any], name: str) -> None:
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
        found = "is missing" if value is None else f"is {short(value)}, not a positive whole number"
        raise ModelError(
            f"config.json (model_type {short(config.get('model_type'))}): {key} {found}",
            where=name,
            remedy=f"use a model that is built like Llama; known model types: {known}",
        )
    return value


def _refuse_more_than(config: Mapping[str, Any], key: str, most: int, name: str) -> None:
    value = config.get(key)
    if isinstance(value, int) and value > most:
        raise ModelError(
            f"config.json (model_type {short(config.get('model_type'))}): {key} is {short(value)}, and no model has more than {most:,}",
            where=name,
            remedy="restore config.json: download the model again",
        )


def _experts(config: Mapping[str, Any], family: Family, name: str) -> tuple[int, int, int]:
    """How many experts, how many of them a token uses, and the width of one (or of the dense MLP)."""
    if family.expert_width is None:
        if not config.get("num_experts"):
            return 0, 0, _number(config, "intermediate_size", name)
        experts = _number(config, "num_experts", name)
        per_token = _number(config, "num_experts_per_tok", name, default=experts)
        width = _number(config, "moe_intermediate_size", name, default=_number(config, "intermediate_size", name))
        return experts, min(experts, per_token), width
    return (
        _number(config, "num_experts", name),
        _number(config, "num_experts_per_tok", name),
        _number(config, family.expert_width, name),
    )


def _slides(config: Mapping[str, Any], architecture: str) -> bool:
    """Whether some layers look back only so far."""
    kinds = config.get("layer_types")
    if isinstance(kinds, list):
        return any(kind != "full_attention" for kind in kinds)
    if architecture == "mistral":
        return config.get("sliding_window", 4096) is not None  # transformers takes 4096 when config.json does not say
    return bool(config.get("use_sliding_window", False))


def _is_composite(config: Mapping[str, Any]) -> bool:
    """Whether it describes a model of text and more, the text in a config of its own."""
    return isinstance(config.get("text_config"), Mapping)


def _has_irregular_layers(config: Mapping[str, Any]) -> bool:
    """Whether some layers of a mixture of experts are dense: then counts are estimates."""
    return bool(config.get("mlp_only_layers")) or config.get("decoder_sparse_step", 1) != 1


def _dtype_bytes(config: Mapping[str, Any], name: str, dtype: str) -> int:
    if dtype == "auto":
        text = config.get("text_config") or {}
        said = (one.get(key) for one in (config, text) for key in ("dtype", "torch_dtype"))
        dtype = str(next((one for one in said if one), "bfloat16"))
    if dtype not in _DTYPE_BYTES:
        raise ModelError(
            f"dtype {short(dtype)} is not one that weights are kept in",
            where=name,
            remedy=f"set the model's dtype to one of {', '.join(_DTYPE_BYTES)}",
        )
    return _DTYPE_BYTES[dtype]
