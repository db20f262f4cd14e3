"""A transformers decoder's weights as the fast path reads them: few, wide matrices instead of many.

The model's own parameters become views of the packed ones, so nothing is stored twice, the general path goes on working, and where
each parameter stands can still be read back from the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from specbatch.engine.general.model import CausalLM
from specbatch.engine.memory import free_cached

_FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
_WITHOUT_BIAS = ("o_proj", "gate_proj", "up_proj", "down_proj")
_DTYPES = (torch.bfloat16, torch.float16, torch.float32)
_STATIC_ROPE = (
    "default",
    "linear",
    "llama3",
    "yarn",
)  # a table by position; the others depend on the sequence's length


@dataclass(frozen=True, slots=True)
class Layer:
    """One decoder layer.

    qkv: queries of all heads, then keys, then values  # [(heads + 2 kv_heads) * head_dim, hidden]
    gate_up: gate's rows, then up's  # [2 * intermediate, hidden]
    """

    input_norm: Tensor
    qkv: Tensor
    qkv_bias: Tensor | None
    q_norm: Tensor | None
    k_norm: Tensor | None
    o: Tensor
    post_norm: Tensor
    gate_up: Tensor
    down: Tensor

    @property
    def device(self) -> torch.device:
        """Where the layer stands."""
        return self.o.device


def why_not(model: CausalLM) -> str | None:
    """What keeps a model off the fast path; None if nothing does."""
    config = model.config
    if config.model_type not in _FAMILIES:
        return f"its architecture is {config.model_type}"
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    windowed = config.model_type == "mistral" and config.sliding_window is not None
    windowed |= any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or ())
    reasons = {
        f"its dtype is {model.model.dtype}": model.model.dtype not in _DTYPES,
        f"its activation is {config.hidden_act}": config.hidden_act != "silu",
        "it has sliding-window attention": windowed,
        f"its rotary embedding is {rope}": rope not in _STATIC_ROPE,
    }
    found = (reason for reason, holds in reasons.items() if holds)
    return next(found, None) or next(_odd_linears(model), None)


def _odd_linears(model: CausalLM) -> Iterator[str]:
    """Linears that cannot be packed, in words."""
    for name, module in model.model.base_model.layers.named_modules():
        if name.endswith("_proj") and type(module) is not nn.Linear:
            yield f"{name} is a {type(module).__name__}"
        elif name.endswith(_WITHOUT_BIAS) and module.bias is not None:
            yield f"{name} has a bias"


def pack_layers(model: Any) -> list[Layer]:
    """Packs all layers of a transformers decoder, one after the other, so that only one is in memory twice at a time."""
    packed = []
    for layer in model.base_model.layers:
        packed.append(pack_layer(layer))
        free_cached(packed[-1].device)  # the parts' memory does not fit the next whole, and would pile up
    return packed


@torch.no_grad()
def pack_layer(layer: Any) -> Layer:
    """Packs one layer."""
    attention, mlp = layer.self_attn, layer.mlp
    heads = (attention.q_proj, attention.k_proj, attention.v_proj)
    biases = [module.bias for module in heads]
    return Layer(
        input_norm=layer.input_layernorm.weight.detach(),
        qkv=_join([module.weight for module in heads]),
        qkv_bias=None if biases[0] is None else _join(biases),
        q_norm=_weight(attention, "q_norm"),
        k_norm=_weight(attention, "k_norm"),
        o=attention.o_proj.weight.detach(),
        post_norm=layer.post_attention_layernorm.weight.detach(),
        gate_up=_join([mlp.gate_proj.weight, mlp.up_proj.weight]),
        down=mlp.down_proj.weight.detach(),
    )


def _weight(module: Any, name: str) -> Tensor | None:
    norm = getattr(module, name, None)
    return None if norm is None else norm.weight.detach()


def _join(parameters: Sequence[nn.Parameter]) -> Tensor:
    """The parameters as one tensor, of which they become views. Joined ones are found as they are."""
    first = parameters[0].data
    rows = sum(len(parameter) for parameter in parameters)
    ends = [parameter.data_ptr() + parameter.nbytes for parameter in parameters]
    starts = [parameter.data_ptr() for parameter in parameters]
    if starts[1:] == ends[:-1] and first.untyped_storage().nbytes() >= rows * first[0].nbytes:
        return first.as_strided((rows, *first.shape[1:]), first.stride(), first.storage_offset())
    joined = torch.cat([parameter.data for parameter in parameters])
    for parameter, part in zip(parameters, joined.split([len(p) for p in parameters]), strict=True):
        parameter.data = part
    return joined
