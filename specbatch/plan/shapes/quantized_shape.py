"""The shape of a model whose weights have fewer bits: stored so, see engine/fp8 and engine/packed, or made at load, see engine/quantization."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from specbatch.errors import ModelError
from specbatch.fp8_weights import is_read
from specbatch.packed_weights import packed_weights
from specbatch.plan.shapes.model_shape import ModelShape

_BITS = {"fp8": 8.0, "int8": 8.0, "int4": 4.5}  # of a number, with scales: in int4 16 bits for each group of 32


def quantized(shape: ModelShape, quantization: str | None, by_itself: str = "") -> ModelShape:
    """The shape with layers and head in fewer bits. A head that is tied to the embedding gets weights of its own.

    Args:
        shape: of the drafter as it is stored.
        quantization: drafter.quantization.
        by_itself: the method by which the checkpoint is quantized already, if it is.

    Raises:
        ModelError: it is no model of linears in floating point.
    """
    if quantization is None:
        return shape
    why = f"its weights are quantized already ({by_itself})" if by_itself else "it is an EAGLE-3 head"
    why = "it is a mixture of experts" if shape.num_experts else why if by_itself or shape.eagle3 is not None else ""
    if why:
        raise ModelError(
            f"drafter.quantization is for dense models in bfloat16 or float32, and {why}",
            where=shape.name,
            remedy="leave drafter.quantization out",
        )
    return replace(shape, quantization=quantization, weight_bits=_BITS[quantization], head_bits=_BITS[quantization])


def stored(shape: ModelShape, config: Mapping[str, Any]) -> ModelShape | None:
    """The shape of a checkpoint whose layers are kept quantized; None where they are not, or the engine does not keep them so.

    Args:
        shape: as if it were not quantized.
        config: its quantization_config.
    """
    left = {str(name).removesuffix(".weight") for name in _left(config) or []}
    if shape.num_experts or any("norm" not in name and name != "lm_head" for name in left):
        return None
    packing = packed_weights(config)
    if packing is None:
        return replace(shape, quantization="fp8", weight_bits=_BITS["fp8"]) if is_read(config) else None
    has_head = "lm_head" not in left if packing.layout == "compressed-tensors" else config.get("lm_head") is True
    bits = packing.kept_bits
    return replace(shape, quantization=f"int{packing.bits}", weight_bits=bits, head_bits=bits if has_head else None)


def _left(config: Mapping[str, Any]) -> Any:
    return config.get("modules_to_not_convert") or config.get("ignored_layers") or config.get("ignore")
