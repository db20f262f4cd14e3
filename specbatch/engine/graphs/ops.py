"""Which implementation of the operations a device gets."""

from __future__ import annotations

import torch

from specbatch.engine.graphs.reference import TorchOps
from specbatch.engine.triton_support import why_no_kernels


def operations(device: torch.device) -> TorchOps:
    """Triton's kernels on a GPU, plain PyTorch elsewhere."""
    if device.type == "cuda" and why_no_kernels(device) is None:
        from specbatch.engine.graphs.linears.w8a8_ops import W8A8Ops  # noqa: PLC0415  # Triton is not installed with a CPU's torch

        return W8A8Ops()
    return TorchOps()
