"""Reads a description from a model's modules: by their numbers where these can be tried out, else by their attributes and the config.

What is read may be wrong where a model's code does what its modules do not show: `check` runs both.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from typing import Any

import torch

from specbatch.engine.graphs.describe.activations import activation_of
from specbatch.engine.graphs.describe.description import (
    AttentionKind,
    DecoderDescription,
    LayerDescription,
    NotDescribedError,
)
from specbatch.engine.graphs.describe.modules import LayerModules, check_around, decoder_of, modules_of
from specbatch.engine.graphs.experts.routing import routing_of

_DTYPES = (torch.bfloat16, torch.float16, torch.float32)


def describe(model: Any, longest: int) -> DecoderDescription:
    """The description of a transformers model for causal language modelling.

    Args:
        model: with its weights.
        longest: positions of the longest row; a window no shorter hides nothing.

    Raises:
        NotDescribedError: with what a description cannot say.
    """
    if model.dtype not in _DTYPES:
        raise NotDescribedError(f"its dtype is {model.dtype}")
    check_around(model)
    config, decoder = model.config.get_text_config(), decoder_of(model)
    layers = [modules_of(layer, number) for number, layer in enumerate(decoder.layers)]
    head_dim, kv_heads = _heads(layers[0])
    around = [norm for layer in layers for norm in layer.norms if norm is not None] + [decoder.norm]
    every = around + [norm for layer in layers for norm in layer.head_norms]
    offsets, epsilons = {_offset(norm) for norm in every}, {_eps(norm) for norm in every}
    scales = {float(getattr(layer, "residual_multiplier", 1.0)) for layer in decoder.layers}
    for what, found in (("offsets", offsets), ("epsilons", epsilons), ("residual multipliers", scales)):
        if len(found) != 1:
            raise NotDescribedError(f"its norms and layers have several {what} ({', '.join(map(str, sorted(found)))})")
    return DecoderDescription(
        layers=tuple(_layer(config, layer, n, head_dim, kv_heads, longest) for n, layer in enumerate(layers)),
        kv_heads=kv_heads,
        head_dim=head_dim,
        eps=epsilons.pop(),
        norm_offset=offsets.pop(),
        embed_scale=_embed_scale(decoder),
        residual_scale=scales.pop(),
        logit_scale=1.0 / float(getattr(config, "logits_scaling", None) or 1.0),
        logit_softcap=float(getattr(config, "final_logit_softcapping", None) or 0.0),
    )


def _heads(layer: LayerModules) -> tuple[int, int]:
    """Width of a head, and how many there are of keys."""
    head_dim = getattr(layer.attention, "head_dim", None)
    if not isinstance(head_dim, int) or not hasattr(layer.attention, "scaling"):
        raise NotDescribedError(f"its attention is a {type(layer.attention).__name__}")
    queries = layer.o.in_features
    keys = (sum(linear.out_features for linear in layer.qkv) - queries) // 2
    if head_dim % 2 or queries % head_dim or keys % head_dim or not keys:
        raise NotDescribedError(
            f"its heads of {head_dim} numbers do not make up {queries} of queries and {keys} of keys"
        )
    return head_dim, keys // head_dim


def _layer(
    config: Any, layer: LayerModules, number: int, head_dim: int, kv_heads: int, longest: int
) -> LayerDescription:
    attention = layer.attention
    if _heads(layer) != (head_dim, kv_heads):
        raise NotDescribedError(f"layer {number} has heads of another shape than the first layer's")
    kinds: Sequence[str] | None = getattr(config, "layer_types", None)
    kind = kinds[number] if kinds is not None else "full_attention"
    if kind not in ("full_attention", "sliding_attention"):
        raise NotDescribedError(f"layer {number} has {kind.replace('_', ' ')}")
    window = getattr(config, "sliding_window", None) if kind == "sliding_attention" or kinds is None else None
    interleaved, rotated = _interleaved(attention), _rotated(config, head_dim, kind)
    parameters = getattr(config, "rope_parameters", None) or {}
    rotates = bool(getattr(attention, "use_rope", True))
    return LayerDescription(
        scale=float(attention.scaling),
        rope=(kind if kind in parameters else "") if rotates else None,
        attention=AttentionKind(
            window=window if window is not None and window < longest else 0,
            softcap=float(getattr(attention, "attn_logit_softcapping", None) or 0.0),
            rotated=0 if rotated == head_dim else rotated,
            interleaved=interleaved,
        ),
        activation=activation_of(layer.activation),
        gated=layer.gated,
        routing=None if layer.moe is None else routing_of(layer.moe),
    )


def _rotated(config: Any, head_dim: int, kind: str) -> int:
    parameters = getattr(config, "rope_parameters", None) or {}
    factor = (parameters.get(kind) or parameters).get("partial_rotary_factor")
    return int(head_dim * float(factor or getattr(config, "partial_rotary_factor", None) or 1.0))


def _interleaved(attention: Any) -> bool:
    """Whether the code around an attention rotates neighbours, not halves."""
    rotate = getattr(sys.modules.get(type(attention).__module__), "rotate_half", None)
    if rotate is None:
        raise NotDescribedError("its code has no rotate_half")
    turned = rotate(torch.arange(1.0, 5.0)).tolist()
    known = {(-3.0, -4.0, 1.0, 2.0): False, (-2.0, 1.0, -4.0, 3.0): True}
    if tuple(turned) not in known:
        raise NotDescribedError(f"its rotate_half makes {turned} of 1 to 4")
    return known[tuple(turned)]


@torch.no_grad()
def _offset(norm: Any) -> float:
    """What an RMS norm adds to its weights."""
    weight = getattr(norm, "weight", None)
    if weight is None or weight.dim() != 1 or getattr(norm, "bias", None) is not None:
        raise NotDescribedError(f"its norm is a {type(norm).__name__}")
    wide, eps = weight.detach().float().cpu(), _eps(norm)
    tried = copy.copy(norm)
    tried._parameters = {"weight": torch.nn.Parameter(wide, requires_grad=False)}  # noqa: SLF001  # a copy's own
    x = torch.linspace(-1, 2, len(wide) or 1)[None]
    plain = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
    try:
        found = type(norm).forward(tried, x)  # not its own, which may carry tensors between devices
    except RuntimeError as error:
        raise NotDescribedError(f"its norm is a {type(norm).__name__} ({error})") from error
    for offset in (0.0, 1.0):
        if torch.allclose(found, plain * (wide + offset), rtol=1e-4, atol=1e-6):
            return offset
    raise NotDescribedError(f"its norm is a {type(norm).__name__}")


def _eps(norm: Any) -> float:
    eps = getattr(norm, "variance_epsilon", getattr(norm, "eps", None))
    if not isinstance(eps, float):
        raise NotDescribedError(f"its norm is a {type(norm).__name__} without an epsilon")
    return eps


def _embed_scale(decoder: Any) -> float:
    """As the embedding multiplies, rounded as it does; and the model after it."""
    scale = getattr(decoder.embed_tokens, "embed_scale", None)
    own = 1.0 if scale is None else float(scale.to(decoder.embed_tokens.weight.dtype))
    return own * float(getattr(decoder, "embedding_multiplier", 1.0))
