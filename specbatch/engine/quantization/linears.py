"""Linears with weights of fewer bits, made when a model is loaded.

Activations stay as they are, but for those of fp8. Embeddings stay: a step reads one row of them; a head that is tied to one gets weights of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from specbatch.engine.memory import free_cached
from specbatch.engine.quantization.rounding import GROUP, quantize
from specbatch.engine.quantization.weight import Quantization, QuantizedWeight, multiply
from specbatch.errors import ModelError


class QuantizedLinear(nn.Module):
    """In the place of a linear. Buffers, so that nothing takes them for weights of the model's dtype."""

    values: Tensor
    scales: Tensor

    def __init__(self, weight: QuantizedWeight, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.register_buffer("values", weight.values)
        self.register_buffer("scales", weight.scales)
        self.rows, self.columns, self.group = weight.rows, weight.columns, weight.group
        self.bias = bias

    @property
    def weight(self) -> QuantizedWeight:
        """The matrix."""
        return QuantizedWeight(self.values, self.scales, self.rows, self.columns, self.group)

    def forward(self, x: Tensor) -> Tensor:
        """x @ weight.T + bias, on the weights' device.  # [..., ins] -> [..., outs]"""
        return multiply(x.to(self.values.device), self.weight, self.bias)


def quantize_linears(model: Any, quantization: Quantization, name: str) -> None:
    """Replaces all linears of a loaded model, one after the other.

    Args:
        model: of transformers, its weights in floating point.
        quantization: of their weights.
        name: of the model, as shown to people.

    Raises:
        ModelError: there is a matrix that is none of a linear, or one that cannot be packed.
    """
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    for path in [path for path, module in model.named_modules() if type(module) is nn.Linear]:
        module = model.get_submodule(path)  # no list of them, which would keep the weights
        _check(path, module, quantization, name)
        parent, _, own = path.rpartition(".")
        weight = quantize(module.weight, quantization)
        setattr(model.get_submodule(parent), own, QuantizedLinear(weight, module.bias))
        del module
        free_cached(weight.device)  # or the next one's weights are put into it
    left = next(_matrices(model, embeddings), None)
    if left is not None:
        raise ModelError(
            f"drafter.quantization rounds the weights of linears, and {left} is none",
            where=name,
            remedy="leave drafter.quantization out for this model",
        )


def _check(path: str, module: nn.Linear, quantization: Quantization, name: str) -> None:
    if not module.weight.is_floating_point() or module.weight.element_size() < 2:
        raise ModelError(
            f"the weights of {path} are {str(module.weight.dtype)[6:]}, and drafter.quantization starts from bfloat16 or float32",
            where=name,
            remedy="leave drafter.quantization out, or name the unquantized model",
        )
    if quantization == "int4" and module.in_features % (2 * GROUP):
        raise ModelError(
            f"{path} has {module.in_features} inputs, and int4 needs a multiple of {2 * GROUP}",
            where=name,
            remedy="set drafter.quantization to int8",
        )


def _matrices(model: Any, embeddings: set[int]) -> Iterator[str]:
    for path, parameter in model.named_parameters():
        if parameter.dim() > 1 and id(parameter) not in embeddings:
            yield path
