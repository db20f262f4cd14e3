"""A tiny model of each family that a description can say, of transformers' own classes; and descriptions of it that are wrong."""

import copy
from dataclasses import replace

import torch

from specbatch.engine.graphs.describe.description import Activation
from tests.engine import architectures

WINDOW = architectures.WINDOW
LONGEST = 200  # tokens of a row
_COMMON = {"num_hidden_layers": 3, "max_position_embeddings": 512, "vocab_size": 50}
_WINDOWS = {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
_LONGROPE = {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0, 1.2, 1.4, 1.6], "long_factor": [2.0, 1.5, 3.0, 4.0]}  # fmt: skip
_HALF = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}
_GRANITE = {
    "embedding_multiplier": 12.0,
    "residual_multiplier": 0.22,
    "logits_scaling": 8.0,
    "attention_multiplier": 0.2,
}
_YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0, "original_max_position_embeddings": 256}
_MINISTRAL3 = _YARN | {"llama_4_scaling_beta": 0.1, "mscale": 1.0, "mscale_all_dim": 1.0}


def attention(**changes):
    """Every layer's attention otherwise."""
    return layers(lambda layer: replace(layer, attention=replace(layer.attention, **changes)))


def layers(change):
    return lambda what: replace(what, layers=tuple(map(change, what.layers)))


def around(**changes):
    return lambda what: replace(what, **changes)


def other_activation(layer):
    return replace(layer, activation=Activation("gelu" if layer.activation.name == "silu" else "silu"))


NO_WINDOW, HALVES = attention(window=0), attention(interleaved=False)
OTHER_ACTIVATION = layers(other_activation)
NO_ROPE = layers(lambda layer: replace(layer, rope=None))
SAME_ROPE = layers(lambda layer: replace(layer, rope="full_attention"))
ROTATED = layers(lambda layer: replace(layer, rope=""))
OTHER_SCALE = layers(lambda layer: replace(layer, scale=2 * layer.scale))


def routed(**changes):
    """Every mixture of experts routed otherwise."""
    return layers(lambda layer: replace(layer, routing=layer.routing and replace(layer.routing, **changes)))


_GROUPED = {"n_routed_experts": 12, "num_local_experts": 12, "num_experts": 12, "num_experts_per_tok": 3, "n_group": 4, "topk_group": 2, "norm_topk_prob": True, "routed_scaling_factor": 2.5}  # fmt: skip
_FULL = {"use_sliding_window": False, "layer_types": None}
_DENSE_SECOND = {"mlp_only_layers": [1], "num_experts": 6, "norm_topk_prob": True}

# The type, what its config has beside the common sizes, and what is wrong about it.
FAMILIES = {
    "llama": ("llama", {}, NO_ROPE),
    "llama, biases": ("llama", {"attention_bias": True, "mlp_bias": True}, OTHER_ACTIVATION),
    "llama, gelu": ("llama", {"hidden_act": "gelu_pytorch_tanh"}, OTHER_ACTIVATION),
    "qwen2, windows": ("qwen2", _WINDOWS, NO_WINDOW),
    "qwen3": ("qwen3", {"use_sliding_window": False, "layer_types": None, "head_dim": 16}, OTHER_SCALE),
    "mistral, a window as long as rows": ("mistral", {"sliding_window": LONGEST}, attention(window=WINDOW)),
    "mistral, a window": ("mistral", {}, NO_WINDOW),
    "ministral": ("ministral", _WINDOWS, NO_WINDOW),
    "ministral3": ("ministral3", {"rope_parameters": _MINISTRAL3, "sliding_window": None}, OTHER_SCALE),
    "smollm3": ("smollm3", {"no_rope_layers": [1, 0, 1], "layer_types": None, "use_sliding_window": False}, ROTATED),
    "granite": ("granite", _GRANITE, around(residual_scale=1.0)),
    "granite, logits": ("granite", _GRANITE, around(logit_scale=1.0)),
    "arcee": ("arcee", {}, OTHER_ACTIVATION),
    "seed_oss": ("seed_oss", {"attention_bias": True, "attention_out_bias": True}, OTHER_SCALE),
    "olmo2": ("olmo2", {}, around(eps=0.3)),
    "olmo3": ("olmo3", _WINDOWS, NO_WINDOW),
    "phi3": ("phi3", {"sliding_window": None}, NO_ROPE),
    "phi3, part": ("phi3", {"sliding_window": None, "rope_parameters": _HALF}, attention(rotated=0)),
    "phi3, longrope": (
        "phi3",
        {"sliding_window": None, "rope_parameters": _LONGROPE, "original_max_position_embeddings": 64},
        NO_ROPE,
    ),
    "helium": ("helium", {}, HALVES),
    "apertus": ("apertus", {}, OTHER_ACTIVATION),
    "glm": ("glm", {}, HALVES),
    "glm4": ("glm4", {}, attention(rotated=0)),
    "gemma": ("gemma", {}, around(norm_offset=0.0)),
    "gemma2": ("gemma2", _WINDOWS | {"attn_logit_softcapping": 2.0}, attention(softcap=0.0)),
    "gemma2, capped logits": ("gemma2", {"final_logit_softcapping": 5.0}, around(logit_softcap=0.0)),
    "vaultgemma": ("vaultgemma", _WINDOWS | {"attn_logit_softcapping": 2.0}, NO_WINDOW),
    "gemma3": ("gemma3_text", {**_WINDOWS, "query_pre_attn_scalar": 5}, around(embed_scale=1.0)),
    "gemma3, one rotary table": ("gemma3_text", _WINDOWS, SAME_ROPE),
    "ernie4_5": ("ernie4_5", {}, HALVES),
    "cwm": ("cwm", _WINDOWS, NO_WINDOW),
    "qwen3_moe": ("qwen3_moe", _FULL | _DENSE_SECOND | {"head_dim": 16}, routed(normed=False)),
    "qwen2_moe": ("qwen2_moe", _FULL | {"decoder_sparse_step": 2}, routed(normed=True)),
    "mixtral": ("mixtral", {"sliding_window": None}, routed(normed=False)),
    "olmoe": ("olmoe", {}, routed(normed=True)),
    "flex_olmo": ("flex_olmo", {}, NO_ROPE),
    "glm4_moe": ("glm4_moe", _GROUPED | {"use_qk_norm": True}, routed(groups=1)),
    "glm4_moe, scale": ("glm4_moe", _GROUPED, routed(scale=1.0)),
    "dots1": ("dots1", _GROUPED | {"layer_types": None, "sliding_window": None}, routed(scores="softmax")),
    "ernie4_5_moe": ("ernie4_5_moe", {}, routed(normed=False)),
    "minimax_m2": ("minimax_m2", {}, routed(scores="softmax")),
    "exaone_moe": ("exaone_moe", _GROUPED, NO_ROPE),
    "mellum": ("mellum", {"layer_types": ["full_attention"] * 3, "norm_topk_prob": True}, routed(normed=False)),
    "solar_open": ("solar_open", _GROUPED, routed(scale=1.0)),
    "exaone4": ("exaone4", {"sliding_window": None, "layer_types": ["full_attention"] * 3}, NO_ROPE),
}


def build(name, seed=11, **changes):
    """Random weights in float32, norms, biases and numbers of activations too."""
    kind, settings, _ = FAMILIES[name]
    model = architectures.build(kind, seed, **_COMMON | settings | changes)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 1:
                weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
        for place, buffer in model.named_buffers():
            if "correction_bias" in place:
                buffer.add_(0.3 * torch.randn(buffer.shape, generator=generator))
    return model


def noisy(model, seed=5):
    """A copy that is right sometimes."""
    twin, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in twin.parameters():
            weight.mul_(1 + 0.02 * torch.randn(weight.shape, generator=generator))
    return twin


def mutant(name, description):
    """A description that is wrong about the family's model."""
    return FAMILIES[name][2](description)
