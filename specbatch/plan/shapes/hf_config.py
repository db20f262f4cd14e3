"""A transformers config.json: the same number under the names that families give it, checked, and what cannot be run refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from reprlib import repr as short
from typing import Any

from specbatch.errors import ModelError
from specbatch.plan.shapes.families import FAMILIES, UNKNOWN_FAMILY, Family

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
_HEAD = re.compile(r"(eagle|eagle3|medusa)$|^(eagle|eagle3|medusa)(model|llama|qwen|draft)", re.IGNORECASE)
_MOST = {
    "num_hidden_layers": 2_000,
    "num_experts": 20_000,
}  # far above any model; to build what a broken config says could take hours
# Of families whose config.json may leave it out: the window, and of how many layers the last sees everything (0: none does).
_WINDOWS: Mapping[str, tuple[int | None, int]] = {
    "mistral": (4096, 0),
    "mixtral": (None, 0),
    "phi3": (None, 0),
    "gemma2": (4096, 2),
    "gemma3_text": (4096, 6),
    "olmo3": (4096, 4),
    "cohere2": (4096, 4),
}
_DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class HfConfig:
    """A parsed config.json.

    Attributes:
        raw: as it was read.
        name: how to call the model in messages.
    """

    raw: Mapping[str, Any]
    name: str

    @cached_property
    def fields(self) -> dict[str, Any]:
        """The numbers under their common names; of a model of text and more, the text's alone."""
        plain = dict(self.raw["text_config"] if self.is_composite else self.raw)
        for name, others in _ALIASES.items():
            if plain.get(name) is None:
                found = next((plain[other] for other in others if plain.get(other) is not None), None)
                if found is not None:
                    plain[name] = found
        if plain.get("num_hidden_layers") is None and isinstance(kinds := plain.get("layers_block_type"), list):
            plain["num_hidden_layers"] = len(kinds)  # Nemotron-H
        if plain.get("intermediate_size") is None and isinstance(plain.get("hidden_size"), int):
            plain["intermediate_size"] = 4 * plain["hidden_size"]  # GPT-2's n_inner is null
        return plain

    @property
    def architecture(self) -> str:
        """The model_type; empty where it does not say."""
        return str(self.raw.get("model_type", ""))

    @property
    def family(self) -> Family:
        """How its layers depart from Llama's."""
        return FAMILIES.get(self.architecture, UNKNOWN_FAMILY)

    @property
    def is_composite(self) -> bool:
        """Whether it describes a model of text and more, the text in a config of its own."""
        return isinstance(self.raw.get("text_config"), Mapping)

    @property
    def fits_formula(self) -> bool:
        """Whether the formula of its family gives its parameters exactly; with some layers of experts dense it does not."""
        irregular = bool(self.raw.get("mlp_only_layers")) or self.raw.get("decoder_sparse_step", 1) != 1
        return self.architecture in FAMILIES and not irregular and not self.is_composite

    @property
    def slides(self) -> bool:
        """Whether some layers look back only so far."""
        kinds = self.fields.get("layer_types")
        if isinstance(kinds, list):
            return any(kind != "full_attention" for kind in kinds)
        if self.architecture == "mistral":  # transformers takes 4096 when config.json does not say
            return self.fields.get("sliding_window", 4096) is not None
        return bool(self.fields.get("use_sliding_window", False))

    @property
    def windows(self) -> tuple[int, ...]:
        """Of each layer, the positions that a token sees, as transformers reads it; 0: all before it, and where nothing is known of the family."""
        fields, layers = self.fields, self.number("num_hidden_layers")
        kind, kinds = str(fields.get("model_type", self.architecture)), fields.get("layer_types")
        default, full = _WINDOWS.get(kind, (None, None))
        window = fields.get("sliding_window", default)
        if not isinstance(window, int) or isinstance(window, bool) or window < 1:
            return (0,) * layers
        if isinstance(kinds, list):
            slides = [number < len(kinds) and kinds[number] == "sliding_attention" for number in range(layers)]
            return tuple(window if slide else 0 for slide in slides)
        if kind in {"qwen2", "qwen3", "qwen3_moe"}:
            whole = fields.get("max_window_layers", 28) if kind != "qwen3_moe" else 0
            whole = whole if fields.get("use_sliding_window") and isinstance(whole, int) else layers
            return tuple(0 if number < whole else window for number in range(layers))
        full = fields.get("sliding_window_pattern") or full
        slides = [isinstance(full, int) and (not full or (number + 1) % full > 0) for number in range(layers)]
        return tuple(window if slide else 0 for slide in slides)

    @property
    def biases(self) -> tuple[bool, bool, bool]:
        """Whether there are any in queries, keys and values, in the attention's output, and in the MLP."""
        family = self.family
        attention = bool(self.fields.get("attention_bias", family.attention_bias_by_default))
        mlp = bool(self.fields.get("mlp_bias", False))
        asked = (family.qkv_bias, attention), (family.output_bias, attention), (family.mlp_bias, mlp)
        qkv, output, inner = (said if fixed is None else fixed for fixed, said in asked)
        return qkv, output, inner

    @property
    def quantised_by(self) -> str:
        """The method by which the checkpoint is quantised; empty where it is not."""
        quantisation = self.raw.get("quantization_config")
        return str(quantisation.get("quant_method", "")) if isinstance(quantisation, Mapping) else ""

    def number(self, key: str, *, default: int | None = None) -> int:
        """A positive whole number.

        Raises:
            ModelError: it is not one, or it is missing and there is no default.
        """
        value = self.fields.get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            known = ", ".join(sorted(FAMILIES))
            found = "is missing" if value is None else f"is {short(value)}, not a positive whole number"
            raise self._wrong(f"{key} {found}", f"use a model that is built like Llama; known model types: {known}")
        return value

    def experts(self) -> tuple[int, int, int]:
        """How many experts, how many of them a token uses, and the width of one (or of the dense MLP).

        Raises:
            ModelError: as `number`.
        """
        if not self.fields.get("num_experts") and not self.family.has_experts:
            return 0, 0, self.number("intermediate_size")
        experts = self.number("num_experts")
        per_token = self.number("num_experts_per_tok", default=None if self.family.has_experts else experts)
        inner = self.number("moe_intermediate_size", default=self.number("intermediate_size"))
        return experts, min(experts, per_token), inner

    def dtype_bytes(self, dtype: str) -> int:
        """Bytes of a weight of that dtype; "auto" is what the config says, else bfloat16.

        Raises:
            ModelError: weights are not kept in it.
        """
        if dtype == "auto":
            text = self.raw["text_config"] if self.is_composite else {}
            said = (one.get(key) for one in (self.raw, text) for key in ("dtype", "torch_dtype"))
            dtype = str(next((one for one in said if one), "bfloat16"))
        if dtype not in _DTYPE_BYTES:
            raise ModelError(
                f"dtype {short(dtype)} is not one that weights are kept in",
                where=self.name,
                remedy=f"set the model's dtype to one of {', '.join(_DTYPE_BYTES)}",
            )
        return _DTYPE_BYTES[dtype]

    def refuse_unusable(self) -> None:
        """Refuses a model that does not continue text token by token, and numbers that no model has.

        Raises:
            ModelError: it is one of those.
        """
        kinds = self.raw.get("architectures")
        if not isinstance(kinds, list | None):
            raise self._wrong(f"architectures is {short(kinds)}, not a list of names", "download the model again")
        heads = any(_HEAD.search(str(kind)) for kind in kinds or [])
        if heads or "speculators_config" in self.raw:
            raise ModelError(
                "config.json describes an EAGLE or Medusa head, which drafts from the target's hidden states and is no language model",
                where=self.name,
                remedy="an EAGLE-3 head can be the drafter (drafter.model); else use a small model of the target's family, or `drafter: {method: ngram}`",
            )
        if self.raw.get("is_encoder_decoder"):
            raise ModelError(
                "config.json describes an encoder-decoder, which cannot continue a prompt token by token alone",
                where=self.name,
                remedy="name a causal language model (decoder only)",
            )
        for key, most in _MOST.items():
            value = self.fields.get(key)
            if isinstance(value, int) and value > most:
                raise self._wrong(
                    f"{key} is {short(value)}, and no model has more than {most:,}",
                    "restore config.json: download the model again",
                )

    def _wrong(self, what: str, remedy: str) -> ModelError:
        model_type = short(self.fields.get("model_type"))
        return ModelError(f"config.json (model_type {model_type}): {what}", where=self.name, remedy=remedy)


def max_positions(config: Mapping[str, Any]) -> int | None:
    """The tokens of a row that the model was made for; None where its config does not say.

    Dynamic NTK reaches beyond max_position_embeddings, which for it is the length before stretching, by its factor (as vLLM counts it).
    """
    text = config.get("text_config")
    for part in (config, text if isinstance(text, Mapping) else {}):
        for name in ("max_position_embeddings", "n_positions"):
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
