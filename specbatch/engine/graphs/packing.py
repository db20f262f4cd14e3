"""A transformers decoder's weights as the fast path reads them: few, wide matrices instead of many.

The model's own parameters become views of the packed ones, so nothing is stored twice, the general path goes on working, and where
each parameter stands can still be read back from the model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from specbatch.engine.graphs.describe.description import DecoderDescription, LayerDescription
from specbatch.engine.graphs.describe.modules import LayerModules, Linear, decoder_of, modules_of
from specbatch.engine.graphs.experts.modules import MoeModules
from specbatch.engine.memory import free_cached
from specbatch.engine.quantization.linears import QuantizedLinear
from specbatch.engine.quantization.weight import QuantizedWeight, Weight


@dataclass(frozen=True, slots=True)
class Experts:
    """A layer's mixture of experts.

    router: the experts' rows, then that of the shared MLP's gate, where it has one  # [experts or one more, hidden]
    bias: of the scores that choose  # [experts]
    gate_up: gate's rows, then up's  # [experts, 2 * intermediate, hidden]
    down: [experts, hidden, intermediate]
    """

    router: Tensor
    bias: Tensor | None
    gate_up: Tensor
    down: Tensor


@dataclass(frozen=True, slots=True)
class Layer:
    """One decoder layer; None is what it does not have.

    qkv: queries of all heads, then keys, then values  # [(heads + 2 kv_heads) * head_dim, hidden]
    q_norm, k_norm: over the numbers of a head, or over those of all heads  # [head_dim] or [heads * head_dim]
    attended_norm: of what attention gives, before it is added to the hidden states  # [hidden]
    post_norm: after attention, before the MLP  # [hidden]
    gate_up: gate's rows, then up's; up's alone without a gate  # [2 * intermediate, hidden]
    fed_norm: of what the MLP gives, before it is added  # [hidden]
    experts: then gate_up and down are of the MLP that every token goes through beside them; without one they have no rows, and no columns
    what: all that its weights do not tell
    """

    input_norm: Tensor | None
    qkv: Weight
    qkv_bias: Tensor | None
    q_norm: Tensor | None
    k_norm: Tensor | None
    o: Weight
    o_bias: Tensor | None
    attended_norm: Tensor | None
    post_norm: Tensor | None
    gate_up: Weight
    gate_up_bias: Tensor | None
    down: Weight
    down_bias: Tensor | None
    fed_norm: Tensor | None
    what: LayerDescription
    experts: Experts | None = None

    @property
    def device(self) -> torch.device:
        """Where the layer stands."""
        return self.o.device


def pack_layers(model: Any, description: DecoderDescription) -> Iterator[Layer]:
    """Packs all layers of a transformers decoder, one after the other, so that only one is in memory twice at a time."""
    for number, layer in enumerate(decoder_of(model).layers):
        packed = pack_layer(modules_of(layer, number), description.layers[number], description.norm_offset)
        free_cached(packed.device)  # the parts' memory does not fit the next whole, and would pile up
        yield packed


@torch.no_grad()
def pack_layer(layer: LayerModules, what: LayerDescription, norm_offset: float = 0.0) -> Layer:
    """Packs one layer."""
    norms = [None if norm is None else norm_weight(norm, norm_offset) for norm in layer.norms]
    q_norm, k_norm = (norm_weight(norm, norm_offset) for norm in layer.head_norms) if layer.head_norms else (None, None)
    none = torch.empty(layer.o.out_features, 0, device=weight_of(layer.o).device)
    return Layer(
        input_norm=norms[0],
        qkv=join_weights(layer.qkv),
        qkv_bias=_bias(layer.qkv),
        q_norm=q_norm,
        k_norm=k_norm,
        o=weight_of(layer.o),
        o_bias=_bias([layer.o]),
        attended_norm=norms[1],
        post_norm=norms[2],
        gate_up=join_weights(layer.gate_up) if layer.gate_up else none.t(),
        gate_up_bias=_bias(layer.gate_up),
        down=none if layer.down is None else weight_of(layer.down),
        down_bias=None if layer.down is None else _bias([layer.down]),
        fed_norm=norms[3],
        what=what,
        experts=None if layer.moe is None else _experts(layer.moe),
    )


def _experts(moe: MoeModules) -> Experts:
    rows = [moe.scores] if moe.shared_gate is None else [moe.scores, moe.shared_gate.weight]
    gate_up, down = moe.experts.gate_up_proj.detach(), moe.experts.down_proj.detach()
    return Experts(_join(rows), moe.bias, gate_up.contiguous(), down.contiguous())


@torch.no_grad()
def norm_weight(norm: Any, offset: float, scale: float = 1.0) -> Tensor:
    """What a norm multiplies by: its own weights, or, where these are not all, (weights + offset) * scale in float32."""
    weight: Tensor = norm.weight.detach()
    return weight if offset == 0 and scale == 1 else (weight.float() + offset) * scale


def weight_of(linear: Linear) -> Weight:
    """A linear's matrix, quantized or not."""
    return linear.weight if isinstance(linear, QuantizedLinear) else linear.weight.detach()


def join_weights(linears: Sequence[Linear]) -> Weight:
    """The matrices of linears of one input as one, of which their own become views; all are quantized alike, or none is."""
    quantized = [linear.weight for linear in linears if isinstance(linear, QuantizedLinear)]
    if quantized:
        values = _join([one.values for one in quantized])
        rows = _rows(quantized)
        scales = [one.scales if one.rows == rows else _by_rows(one, rows) for one in quantized]
        return replace(quantized[0], values=values, scales=_join(scales), rows=rows)
    return _join([linear.weight for linear in linears if isinstance(linear, nn.Linear)])


def _rows(weights: Sequence[QuantizedWeight]) -> int:
    """Outputs that can share scales in the joined matrix: none lies in two matrices, nor in both halves of one (gate and up)."""
    ends = [len(weight.values) for weight in weights]
    return math.gcd(*(weight.rows for weight in weights), *ends[:-1], sum(ends) // 2)


def _by_rows(weight: QuantizedWeight, rows: int) -> Tensor:
    return weight.scales.repeat_interleave(weight.rows // rows, 0)[: -(-len(weight.values) // rows)].contiguous()


def _bias(linears: Sequence[Linear]) -> Tensor | None:
    biases = [linear.bias for linear in linears if linear.bias is not None]
    return _join(biases) if biases else None


def _join(parameters: Sequence[Tensor]) -> Tensor:
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
