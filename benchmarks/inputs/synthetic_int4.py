"""Synthetic models whose linears are int4 in groups of 128 with zero points, as AWQ checkpoints keep them."""

from __future__ import annotations

import torch
from torch import Tensor

from specbatch.engine.quantization.rounding import packed_int4
from specbatch.engine.quantization.weight import QuantizedWeight

GROUP = 128
_ROWS = 4096  # outputs that are rounded at once


def in_groups(weight: Tensor, group: int = GROUP) -> QuantizedWeight:
    """A weight rounded to the 16 numbers between the least and the largest of each group.  # [N, K]"""
    outs, ins = weight.shape
    size = next(size for size in (group, 64, 32) if ins % (2 * size) == 0)
    device = weight.device
    values = torch.empty(outs, ins // 2, dtype=torch.uint8, device=device)
    scales = torch.empty(outs, ins // size, 2, dtype=weight.dtype, device=device)
    for first in range(0, outs, _ROWS):
        rows = slice(first, first + _ROWS)
        groups = weight[rows].detach().float().unflatten(1, (-1, size))
        low, high = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
        scale = ((high - low) / 15).clamp(min=1e-12).to(weight.dtype).float()
        zero = (-low / scale).round().clamp(0, 15)
        numbers = ((groups / scale).round() + zero).clamp(0, 15) - 8
        values[rows] = packed_int4(numbers.to(torch.int8).flatten(1))
        scales[rows] = torch.cat([scale, zero - 8], -1).to(weight.dtype)
    return QuantizedWeight(values, scales)
