"""The shape of a drafter whose weights are made of fewer bits at load, see engine/quantization.py."""

from __future__ import annotations

from dataclasses import replace

from specbatch.errors import ModelError
from specbatch.plan.model_shape import ModelShape

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
    return replace(shape, quantization=quantization, weight_bits=_BITS[quantization])
