"""The operations of a packed decoder on a GPU: Triton's, and those of linears whose weights and inputs are FP8."""

from __future__ import annotations

from typing import TypeGuard

from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from specbatch.engine.graphs.describe.description import SILU, Activation
from specbatch.engine.graphs.describe.operations import Normed
from specbatch.engine.graphs.describe.triton_operations import normed
from specbatch.engine.graphs.linears import w8a8
from specbatch.engine.graphs.reference import Ahead
from specbatch.engine.graphs.triton_ops import TritonOps
from specbatch.engine.quantization.weight import QuantizedWeight, Weight, multiply


class W8A8Ops(TritonOps):
    """TritonOps for linears of any weights. No norm is handed from a linear to one that rounds its inputs, which needs all of it."""

    def __init__(self) -> None:
        super().__init__()
        self._rounded = WeakTensorKeyDictionary()  # what a gate's kernel wrote -> the same, as the next linear takes it

    def linear(self, x: Tensor, weight: Weight, bias: Tensor | None = None) -> Tensor:
        """As in TorchOps."""
        if not _rounds(weight):
            return super().linear(x, weight, bias)
        if not w8a8.takes(x, weight):
            return multiply(x, weight, bias)
        return w8a8.linear(w8a8.inputs(x, weight), weight, bias)

    def norm_linear(
        self,
        x: Tensor,
        norm: Tensor,
        eps: float,
        weight: Weight,
        bias: Tensor | None = None,
        ahead: Ahead | Normed | None = None,
        following: Weight | None = None,
    ) -> Tensor:
        """The norm in the kernel that rounds."""
        if not _rounds(weight):
            return super().norm_linear(x, norm, eps, weight, bias, ahead, following)
        if isinstance(ahead, Normed):
            return self.linear(ahead.x, weight, bias)
        if not (w8a8.takes(x, weight) and normed(x, norm)):
            return self.linear(self.rms_norm(x, norm, eps), weight, bias)
        return w8a8.linear(w8a8.inputs(x, weight, norm, eps), weight, bias)

    def linear_add(self, x: Tensor, weight: Weight, residual: Tensor) -> Tensor:
        """As in TorchOps."""
        if not _rounds(weight):
            return super().linear_add(x, weight, residual)
        if not w8a8.takes(x, weight):
            return residual + multiply(x, weight)
        ready = self._rounded.get(x)
        return w8a8.linear(w8a8.inputs(x, weight) if ready is None else ready, weight, residual=residual)

    def linear_add_ahead(
        self, x: Tensor, weight: Weight, residual: Tensor, norm: Tensor, following: Weight
    ) -> tuple[Tensor, Ahead | None]:
        """Nothing is handed on by a linear that rounds, nor to one."""
        if _rounds(weight) or _rounds(following):
            return self.linear_add(x, weight, residual), None
        return super().linear_add_ahead(x, weight, residual, norm, following)

    def norm_gated(
        self,
        x: Tensor,
        norm: Tensor | None,
        eps: float,
        gate_up: Weight,
        ahead: Ahead | Normed | None = None,
        following: Weight | None = None,
        activation: Activation = SILU,
    ) -> Tensor:
        """Few tokens are gated in the linear's kernel, and rounded for the next one there."""
        if not _rounds(gate_up):
            return super().norm_gated(x, norm, eps, gate_up, ahead, following, activation)
        if isinstance(ahead, Normed):
            x, norm = ahead.x, None
        if norm is not None and not normed(x, norm):
            x, norm = self.rms_norm(x, norm, eps), None
        if not w8a8.takes(x, gate_up):
            ready = x if norm is None else self.rms_norm(x, norm, eps)
            return self.gate(multiply(ready, gate_up), activation)
        gates = w8a8.gates(len(x), gate_up, x.dtype)
        inputs = w8a8.inputs(x, gate_up, norm, eps, gated=gates)
        if gates:
            group = following.group if isinstance(following, QuantizedWeight) else 0
            out, rounded = w8a8.gated(inputs, gate_up, activation, group=group)
            if rounded is not None:
                self._rounded[out] = rounded
            return out
        return self.gate(w8a8.linear(inputs, gate_up), activation)


def _rounds(weight: Weight) -> TypeGuard[QuantizedWeight]:
    return isinstance(weight, QuantizedWeight) and weight.group > 0
