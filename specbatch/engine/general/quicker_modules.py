"""Modules of transformers' that take one kernel, or a faster one, in place of what they take as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.activations import FastGELUActivation, GELUTanh, NewGELUActivation
from transformers.pytorch_utils import Conv1D

from specbatch.engine.general.slot_write import kernels

Product = Callable[[Tensor, Tensor, Tensor | None], Tensor | None]
"""x @ weight.T + bias of as few tokens as it takes; None for more.  # [T, in], [out, in], [out] -> [T, out]"""

_ALIGNED = 8  # numbers of two bytes that cuBLAS's fast products are made of


def quicken(model: Any, product: Product | None = None) -> None:
    """Gives a model's activations, layer norms, head and linears their faster kernels.

    Args:
        model: of transformers.
        product: of few tokens, see Product.
    """
    in_one_kernel(model)
    align_head(model)
    for module in model.modules():
        if type(module) is nn.LayerNorm and len(module.normalized_shape) == 1:
            module.__class__ = FewRowsLayerNorm
        elif type(module) in _LINEARS and product is not None and type(module.weight) is nn.Parameter:
            _of_few_tokens(module, product)


def _of_few_tokens(module: Any, product: Product) -> None:
    """Weights of a Conv1D are turned, once, to lie as a linear's do."""
    if type(module) is Conv1D:
        module.weight.data = module.weight.data.t().contiguous()
    module.__class__ = _LINEARS[type(module)]
    module.product = product


class FewTokensLinear(nn.Linear):
    """A linear, whose few tokens are multiplied by a product of ours."""

    product: Product

    def forward(self, x: Tensor) -> Tensor:
        """As nn.Linear."""
        found = self.product(x.reshape(-1, x.shape[-1]), self.weight, self.bias)
        return super().forward(x) if found is None else found.view(*x.shape[:-1], -1)


class FewTokensConv1D(Conv1D):  # type: ignore[misc]  # transformers is untyped here
    """The same of a Conv1D, which is a linear by another name."""

    product: Product

    def forward(self, x: Tensor) -> Tensor:
        """As Conv1D."""
        found = self.product(x.reshape(-1, x.shape[-1]), self.weight, self.bias)
        return F.linear(x, self.weight, self.bias) if found is None else found.view(*x.shape[:-1], -1)


class FewRowsLayerNorm(nn.LayerNorm):
    """A layer norm, which few rows get from a kernel of ours."""

    def forward(self, x: Tensor) -> Tensor:
        """As nn.LayerNorm."""
        if kernels(x.device) is not None and x.device.index == torch.cuda.current_device():
            from specbatch.engine.general.kernels import norm  # noqa: PLC0415  # Triton is not installed with a CPU's torch

            if norm.takes(x, self.weight, self.bias):
                return norm.layer_norm(x, self.weight, self.bias, self.eps)
        return super().forward(x)


def in_one_kernel(model: nn.Module) -> None:
    """Activations that are eight kernels become the one that transformers calls equivalent, and that rounds once."""
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) in (NewGELUActivation, FastGELUActivation):
                setattr(module, name, GELUTanh())


def align_head(model: Any) -> None:
    """Makes a head an AlignedLinear where that is faster."""
    head = model.get_output_embeddings()
    if type(head) is nn.Linear and head.out_features % _ALIGNED and head.weight.element_size() == 2:  # bytes
        head.__class__ = AlignedLinear


class AlignedLinear(nn.Linear):
    """A linear of an odd number of outputs, as GPT-2's vocabulary: all but the last few by a fast product."""

    def forward(self, x: Tensor) -> Tensor:
        """As nn.Linear, of the same weights."""
        most = self.out_features // _ALIGNED * _ALIGNED
        products = torch.cat([F.linear(x, weight) for weight in self.weight.tensor_split([most])], -1)
        return products if self.bias is None else products + self.bias


class FewTokensAlignedLinear(FewTokensLinear, AlignedLinear):
    """Both."""


_LINEARS: dict[type, type] = {
    nn.Linear: FewTokensLinear,
    AlignedLinear: FewTokensAlignedLinear,
    Conv1D: FewTokensConv1D,
}
