"""The model families of transformers that are built like Llama, and the formula of their layers.

`tests/plan/test_meta_models.py` builds each of them in transformers and compares every count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from specbatch.plan.shapes.model_shape import LayerShape, ModelShape


@dataclass(frozen=True, slots=True)
class Family:
    """How one model_type departs from Llama's layer."""

    qkv_bias: bool | None = False  # None: as attention_bias in its config says
    output_bias: bool | None = False  # as above
    mlp_bias: bool | None = False  # None: as mlp_bias in its config says
    attention_bias_by_default: bool = False  # what transformers takes when config.json does not say
    qk_norm: Literal["none", "head", "full"] = "none"  # a norm a head (Qwen3), or over all heads (OLMo 2)
    norms_per_layer: int = 2
    tied_by_default: bool = False  # what transformers takes when config.json does not say
    head_dim_by_default: int | None = None  # None: hidden_size / num_attention_heads
    has_experts: bool = False  # a mixture of experts
    router_bias: bool = False
    sinks: bool = False  # a number a head that attention may go to in place of a token


FAMILIES = {
    "llama": Family(qkv_bias=None, output_bias=None, mlp_bias=None),
    "mistral": Family(),
    "qwen2": Family(qkv_bias=True),
    "mimo": Family(qkv_bias=True),
    "qwen3": Family(qkv_bias=None, output_bias=None, qk_norm="head", head_dim_by_default=128),
    "granite": Family(qkv_bias=None, output_bias=None, mlp_bias=None),
    "smollm3": Family(qkv_bias=None, output_bias=None, mlp_bias=None, tied_by_default=True),
    "phi3": Family(),
    "olmo2": Family(qkv_bias=None, output_bias=None, qk_norm="full"),
    "gemma": Family(qkv_bias=None, output_bias=None, tied_by_default=True, head_dim_by_default=256),
    "gemma2": Family(qkv_bias=None, output_bias=None, norms_per_layer=4, tied_by_default=True, head_dim_by_default=256),
    "gemma3_text": Family(
        qkv_bias=None,
        output_bias=None,
        qk_norm="head",
        norms_per_layer=4,
        tied_by_default=True,
        head_dim_by_default=256,
    ),
    "olmo3": Family(qkv_bias=None, output_bias=None, qk_norm="full"),
    "glm": Family(qkv_bias=None, attention_bias_by_default=True, head_dim_by_default=128),
    "glm4": Family(qkv_bias=None, attention_bias_by_default=True, norms_per_layer=4, head_dim_by_default=128),
    "seed_oss": Family(qkv_bias=None, attention_bias_by_default=True, head_dim_by_default=128),
    "cohere": Family(qkv_bias=None, output_bias=None, norms_per_layer=1, tied_by_default=True),
    "cohere2": Family(qkv_bias=None, output_bias=None, norms_per_layer=1, tied_by_default=True),
    "gpt_oss": Family(
        qkv_bias=None,
        output_bias=None,
        attention_bias_by_default=True,
        mlp_bias=True,
        head_dim_by_default=64,
        has_experts=True,
        router_bias=True,
        sinks=True,
    ),
    "mixtral": Family(has_experts=True),
    "qwen3_moe": Family(qkv_bias=None, output_bias=None, qk_norm="head", has_experts=True),
}

# Stands in for a model_type that is not listed: Llama's layer, with the biases its config admits to.
UNKNOWN_FAMILY = Family(qkv_bias=None, output_bias=None, mlp_bias=None)


def llama_layer(shape: ModelShape, family: Family, biases: tuple[bool, bool, bool]) -> LayerShape:
    """A decoder layer in numbers: attention with grouped heads, a gated MLP (or a router and experts of that kind), norms.

    Args:
        shape: for its widths; its layers are of no meaning yet.
        family: for its norms.
        biases: whether there are any in queries, keys and values, in the attention's output, and in the MLP.
    """
    hidden, inner, experts = shape.hidden_size, shape.intermediate_size, shape.num_experts
    queries, keys = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
    qkv_bias, output_bias, mlp_bias = biases
    params = hidden * (2 * queries + 2 * keys) + family.norms_per_layer * hidden
    params += {"none": 0, "head": 2 * shape.head_dim, "full": queries + keys}[family.qk_norm]
    params += (queries + 2 * keys if qkv_bias else 0) + (hidden if output_bias else 0)
    params += shape.num_heads if family.sinks else 0
    mlp = 3 * hidden * inner + (2 * inner + hidden if mlp_bias else 0)
    if experts:
        router = experts * (hidden + 1) if family.router_bias else experts * hidden
        return LayerShape(params + router, experts * mlp, kv=2 * keys)
    return LayerShape(params + mlp, 0, kv=2 * keys)
