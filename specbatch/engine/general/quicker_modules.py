"""Modules of transformers' that take one kernel, or a faster one, in place of what they take as they are."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.activations import FastGELUActivation, GELUTanh, NewGELUActivation

from specbatch.engine.general.slot_write import kernels

_ALIGNED = 8  # numbers of two bytes that cuBLAS's fast products are made of


def quicken(model: Any) -> None:
    """Gives a model's activations, layer norms and head their faster kernels; weights stay where they are."""
    in_one_kernel(model)
    align_head(model)
    for module in model.modules():
        if type(module) is nn.LayerNorm and len(module.normalized_shape) == 1:
            module.__class__ = FewRowsLayerNorm


class FewRowsLayerNorm(nn.LayerNorm):
    """A layer norm, which few rows get from a kernel of ours."""

    def forward(self, x: Tensor) -> Tensor:
        """As nn.LayerNorm."""
        if kernels(x.device) is not None and x.device.index == torch.cuda.current_device():
            from specbatch.engine.general import norm_kernel  # noqa: PLC0415  # Triton is not installed with a CPU's torch

            if norm_kernel.takes(x, self.weight, self.bias):
                return norm_kernel.layer_norm(x, self.weight, self.bias, self.eps)
        return super().forward(x)


def in_one_kernel(model: nn.Module) -> None:
    """Activations that are eight kernels become the one that transformers calls equivalent, and that rounds once."""
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) in (NewGELUActivation, FastGELUActivation):
                setattr(module, name, GELUTanh())


class AlignedLinear(nn.Linear):
    """A linear of an odd number of outputs, as GPT-2's vocabulary: all but the last few by a fast product."""

    def forward(self, x: Tensor) -> Tensor:
        """As nn.Linear, of the same weights."""
        most = self.out_features // _ALIGNED * _ALIGNED
        products = torch.cat([F.linear(x, weight) for weight in self.weight.tensor_split([most])], -1)
        return products if self.bias is None else products + self.bias


def align_head(model: Any) -> None:
    """Makes a head an AlignedLinear where that is faster."""
    head = model.get_output_embeddings()
    if type(head) is nn.Linear and head.out_features % _ALIGNED and head.weight.element_size() == 2:  # bytes
        head.__class__ = AlignedLinear
