"""Which implementation of the operations a device gets."""

from __future__ import annotations

import importlib.util
import os

import torch

from specbatch.engine.gpu.reference import TorchOps


def has_triton() -> bool:
    """Whether Triton's kernels can be compiled here; SPECBATCH_NO_TRITON=1 says no."""
    return importlib.util.find_spec("triton") is not None and os.environ.get("SPECBATCH_NO_TRITON") != "1"


def operations(device: torch.device) -> TorchOps:
    """Triton's kernels on a GPU, plain PyTorch elsewhere."""
    if device.type == "cuda" and has_triton():
        from specbatch.engine.gpu.triton_ops import TritonOps  # noqa: PLC0415  # Triton is not installed with a CPU's torch

        return TritonOps()
    return TorchOps()
