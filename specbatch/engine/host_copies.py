"""Copies between host and device for which the host does not wait."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def upload(values: Sequence[int] | Sequence[float] | Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A tensor on the device, without waiting for it: from pinned memory, which is kept until the copy is done."""
    here = torch.as_tensor(values, dtype=dtype)
    return pinned_copy(here).to(device, non_blocking=True) if device.type == "cuda" else here


def pinned_copy(values: Tensor) -> Tensor:
    """A copy in pinned memory, by one core: PyTorch wakes all of them for more than 32,768 values, which takes milliseconds."""
    pinned = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    np.copyto(pinned.numpy(), values.numpy())
    return pinned


def queue_copy_to_host(tensor: Tensor) -> Tensor:
    """A copy on the host, once the device has come past it."""
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
    return host.copy_(tensor, non_blocking=True)
