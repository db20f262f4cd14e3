"""New KV on its way to its slots, and the kernels that take it there."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from specbatch.engine.triton_support import why_no_kernels

_CAPABILITY = (8, 0)  # of GPUs whose tensor cores the kernels use


@cache
def kernels(device: torch.device) -> Any:
    """The kernels over slots, where they run: Triton is not installed with a CPU's torch."""
    able = device.type == "cuda" and why_no_kernels(device) is None
    if not able or torch.cuda.get_device_capability(device) < _CAPABILITY:
        return None
    module = importlib.import_module("specbatch.engine.general.kernels.slots")
    try:
        module.try_out(device)
    except Exception:  # noqa: BLE001 - whatever Triton raises that cannot compile here; PyTorch's attention takes longer
        return None
    return module


@dataclass(frozen=True, slots=True)
class SlotWrite:
    """New KV of a layer, and where it goes.

    keys, values: of the view's slots  # [n, kv_heads, length, head_dim]
    key, value: of the tokens  # [n, kv_heads, tokens, head_dim]
    positions: int64 [n, tokens]
    seen: what the layer's attention is given, the new KV among it
    """

    keys: Tensor
    values: Tensor
    key: Tensor
    value: Tensor
    positions: Tensor
    seen: tuple[Tensor, Tensor]

    def do(self) -> None:
        """Writes it."""
        kernels(self.keys.device).write(self.keys, self.values, self.key, self.value, self.positions)
