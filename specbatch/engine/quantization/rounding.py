"""Round to nearest, symmetric: int8 and fp8 (e4m3) with a scale for each output, int4 with one for each group of inputs of an output."""

from __future__ import annotations

import torch
from torch import Tensor

from specbatch.engine.quantization.weight import Quantization, QuantizedWeight

GROUP = 32  # inputs that share a scale in int4
_LARGEST = {"fp8": 448.0, "int8": 127.0}
_SHARES = (1.0, 0.93, 0.86, 0.8)  # of the scale by which nothing is cut off
_ROWS = 8192  # outputs that are rounded at once: what that takes of memory is several times their own


@torch.no_grad()
def quantize(weight: Tensor, quantization: Quantization) -> QuantizedWeight:
    """Rounds a matrix to fewer bits.

    Args:
        weight: floating point [outs, ins]
        quantization: int4 needs inputs in two halves of whole groups.
    """
    outs, ins = weight.shape
    dtype = {"fp8": torch.float8_e4m3fn, "int8": torch.int8, "int4": torch.uint8}[quantization]
    is_int4 = quantization == "int4"
    # Made before what is worked with, and a part at a time: what stays would else lie in the middle of what is given back.
    values = torch.empty(outs, ins // 2 if is_int4 else ins, dtype=dtype, device=weight.device)
    groups, kept = (ins // GROUP, torch.bfloat16) if is_int4 else (1, torch.float32)
    scales = torch.empty(outs, groups, dtype=kept, device=weight.device)
    for first in range(0, outs, _ROWS):
        rows = slice(first, first + _ROWS)
        values[rows], scales[rows] = _int4(weight[rows]) if is_int4 else _eight_bits(weight[rows], quantization)
    return QuantizedWeight(values, scales)


def _eight_bits(weight: Tensor, quantization: Quantization) -> tuple[Tensor, Tensor]:
    """Values and scales of some outputs."""
    wide, largest = weight.float(), _LARGEST[quantization]
    scales = (wide.abs().amax(-1, keepdim=True) / largest).clamp(min=torch.finfo(torch.float32).tiny)
    scaled = (wide / scales).clamp(-largest, largest)
    return scaled.to(torch.float8_e4m3fn) if quantization == "fp8" else scaled.round().to(torch.int8), scales


def _int4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Codes and scales of some outputs: of a few scales, the one by which a group is off least."""
    outs, ins = weight.shape
    wide = weight.float().view(outs, ins // GROUP, GROUP)
    at = wide.abs().argmax(-1, keepdim=True)
    whole = wide.gather(-1, at) / -8  # by which the number farthest from 0 is -8
    whole = torch.where(whole == 0, torch.finfo(torch.float32).tiny, whole)
    least = torch.full_like(whole, torch.inf)
    values, scales = torch.zeros_like(wide), whole
    for share in _SHARES:
        tried = (share * whole).bfloat16().float()  # half a bit a value
        rounded = (wide / tried).round().clamp(-8, 7)
        off = (wide - rounded * tried).square().sum(-1, keepdim=True)
        values, scales = torch.where(off < least, rounded, values), torch.where(off < least, tried, scales)
        least = torch.minimum(off, least)
    return packed_int4(values.to(torch.int8).view(outs, ins)), scales[..., 0].bfloat16()


def packed_int4(numbers: Tensor) -> Tensor:
    """Numbers from -8 to 7 as a QuantizedWeight has them.  # int8 [outs, ins] -> uint8 [outs, ins / 2]"""
    low, high = numbers.view(torch.uint8).chunk(2, dim=1)
    return (low & 15) | (high << 4)
