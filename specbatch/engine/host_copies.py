"""Copies between host and device for which the host does not wait."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def upload(values: Sequence[int] | Sequence[float] | Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A tensor on the device, without waiting for it: from pinned memory, which is kept until the copy is done."""
    here = torch.as_tensor(values, dtype=dtype)
    return here.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else here


def queue_copy_to_host(tensor: Tensor) -> Tensor:
    """A copy on the host, once the device has come past it."""
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
    return host.copy_(tensor, non_blocking=True)
