"""A linear of a checkpoint in FP8 while it is loaded: parameters under the checkpoint's names, in its shapes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from specbatch.engine.fp8.w8a8 import FP8
from specbatch.engine.quantization.linears import QuantizedLinear
from specbatch.engine.quantization.weight import QuantizedWeight


@dataclass(frozen=True, slots=True)
class Scheme:
    """How a checkpoint keeps its linears, by (outputs, inputs).

    scale_name: of the scales, beside "weight".
    scale_shape: that they are stored in.
    block: outputs and inputs that share a scale.
    group: see QuantizedWeight, by the number of inputs.
    """

    scale_name: str
    scale_shape: Callable[[int, int], tuple[int, ...]]
    block: Callable[[int, int], tuple[int, int]]
    group: Callable[[int], int]


class StoredLinear(nn.Module):
    """Takes what a checkpoint has; `loaded` is what runs."""

    def __init__(self, in_features: int, out_features: int, scheme: Scheme, *, bias: bool) -> None:
        super().__init__()
        self.scheme = scheme
        self.in_features, self.out_features = in_features, out_features
        scales = torch.empty(scheme.scale_shape(out_features, in_features), dtype=torch.float32)
        self.weight = _parameter(torch.empty(out_features, in_features, dtype=FP8))
        self.register_parameter(scheme.scale_name, _parameter(scales))
        self.bias = _parameter(torch.empty(out_features)) if bias else None

    def odd_shapes(self) -> dict[str, tuple[torch.Size, torch.Size]]:
        """Parameters of another size, as loaded and as they are needed: transformers does not look at those of quantised models."""
        name = self.scheme.scale_name
        wanted = {
            "weight": torch.Size((self.out_features, self.in_features)),
            name: torch.Size(self.scheme.scale_shape(self.out_features, self.in_features)),
        }
        shapes = {key: getattr(self, key).shape for key in wanted}
        return {key: (shapes[key], wanted[key]) for key in wanted if shapes[key].numel() != wanted[key].numel()}

    def loaded(self) -> QuantizedLinear:
        """The linear that runs, of the same memory."""
        rows, columns = self.scheme.block(self.out_features, self.in_features)
        scales = getattr(self, self.scheme.scale_name).detach().float()
        scales = scales.reshape(-(-self.out_features // rows), -(-self.in_features // columns))
        group = self.scheme.group(self.in_features)
        if not group:  # an output of its own for each, as kernels of weights alone have it
            scales, rows = scales.repeat_interleave(rows, 0)[: self.out_features], 1
        return QuantizedLinear(QuantizedWeight(self.weight.detach(), scales, rows, columns, group), self.bias)


def _parameter(tensor: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)
