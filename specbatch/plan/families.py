"""What differs between the model families of transformers that are built like Llama.

`tests/plan/test_meta_models.py` builds each of them in transformers and compares every count.
"""

from __future__ import annotations

from dataclasses import dataclass

from specbatch.plan.shape import QkNorm


@dataclass(frozen=True, slots=True)
class Family:
    """How one model_type departs from Llama's layer."""

    qkv_bias: bool | None = False  # None: as attention_bias in its config says
    output_bias: bool | None = False  # as above
    mlp_bias: bool | None = False  # None: as mlp_bias in its config says
    qk_norm: QkNorm = "none"
    norms_per_layer: int = 2
    tied_by_default: bool = False  # what transformers takes when config.json does not say
    head_dim_by_default: int | None = None  # None: hidden_size / num_attention_heads
    expert_width: str | None = None  # of a mixture of experts: the config's key for the width of one


FAMILIES = {
    "llama": Family(qkv_bias=None, output_bias=None, mlp_bias=None),
    "mistral": Family(),
    "qwen2": Family(qkv_bias=True),
    "qwen3": Family(qkv_bias=None, output_bias=None, qk_norm="head", head_dim_by_default=128),
    "granite": Family(qkv_bias=None, output_bias=None, mlp_bias=None),
    "smollm3": Family(qkv_bias=None, output_bias=None, mlp_bias=None, tied_by_default=True),
    "phi3": Family(),
    "olmo2": Family(qkv_bias=None, output_bias=None, qk_norm="full"),
    "gemma": Family(qkv_bias=None, output_bias=None, tied_by_default=True, head_dim_by_default=256),
    "gemma2": Family(qkv_bias=None, output_bias=None, norms_per_layer=4, tied_by_default=True, head_dim_by_default=256),
    "mixtral": Family(expert_width="intermediate_size"),
    "qwen3_moe": Family(qkv_bias=None, output_bias=None, qk_norm="head", expert_width="moe_intermediate_size"),
}

# Stands in for a model_type that is not listed: Llama's layer, with the biases its config admits to.
UNKNOWN_FAMILY = Family(qkv_bias=None, output_bias=None, mlp_bias=None)
