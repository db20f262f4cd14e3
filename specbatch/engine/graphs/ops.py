"""Which implementation of the operations a device gets."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from specbatch.engine.graphs.reference import TorchOps
from specbatch.engine.triton_support import why_no_kernels

_HALF = 2  # bytes: of float32, kernels take half a minute to compile, and are no faster


def operations(device: torch.device) -> TorchOps:
    """Triton's kernels on a GPU, plain PyTorch elsewhere."""
    if device.type == "cuda" and why_no_kernels(device) is None:
        from specbatch.engine.graphs.linears.w8a8_ops import W8A8Ops  # noqa: PLC0415  # Triton is not installed with a CPU's torch

        return W8A8Ops()
    return TorchOps()


def product_of_few(device: torch.device) -> Callable[[Tensor, Tensor, Tensor | None], Tensor | None] | None:
    """x @ weight.T + bias by the kernel of few tokens, of those that it takes, on a GPU that has it; None elsewhere."""
    if device.type != "cuda" or why_no_kernels(device) is not None:
        return None
    from specbatch.engine.graphs.kernels.linears import linear, linear_limits  # noqa: PLC0415  # as above

    def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor | None:
        if x.element_size() > _HALF or not linear_limits.few(x, weight):
            return None
        return linear.linear(x, weight, bias)

    return product
