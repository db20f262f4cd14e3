"""Round to nearest, symmetric: int8 with a scale for each output, int4 with one for each group of inputs of an output.

fp8 (e4m3) has one for each block of outputs and inputs, and inputs that are rounded, too: the form of Qwen3-8B-FP8, see fp8/w8a8.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from specbatch.engine.fp8.w8a8 import FP8, LARGEST
from specbatch.engine.quantization.weight import Quantization, QuantizedWeight
from specbatch.fp8_weights import BLOCK

GROUP = 32  # inputs that share a scale in int4
_LARGEST = 127.0  # of int8
_SHARES = (1.0, 0.93, 0.86, 0.8)  # of the scale by which nothing is cut off
_ROWS = 8192  # outputs that are rounded at once, whole blocks: what that takes of memory is several times their own
_TINY = torch.finfo(torch.float32).tiny


@torch.no_grad()
def quantize(weight: Tensor, quantization: Quantization) -> QuantizedWeight:
    """Rounds a matrix to fewer bits.

    Args:
        weight: floating point [outs, ins]
        quantization: int4 needs inputs in two halves of whole groups.
    """
    outs, ins = weight.shape
    dtype = {"fp8": FP8, "int8": torch.int8, "int4": torch.uint8}[quantization]
    is_fp8, is_int4 = quantization == "fp8", quantization == "int4"
    # Made before what is worked with, and a part at a time: what stays would else lie in the middle of what is given back.
    values = torch.empty(outs, ins // 2 if is_int4 else ins, dtype=dtype, device=weight.device)
    height = BLOCK if is_fp8 else 1
    groups = ins // GROUP if is_int4 else -(-ins // BLOCK) if is_fp8 else 1
    kept = torch.bfloat16 if is_int4 else torch.float32
    scales = torch.empty(-(-outs // height), groups, dtype=kept, device=weight.device)
    rounded = {"fp8": _fp8, "int8": _int8, "int4": _int4}[quantization]
    for first in range(0, outs, _ROWS):
        rows, blocks = slice(first, first + _ROWS), slice(first // height, (first + _ROWS) // height)
        values[rows], scales[blocks] = rounded(weight[rows])
    return QuantizedWeight(values, scales, BLOCK, BLOCK, BLOCK) if is_fp8 else QuantizedWeight(values, scales)


def _int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Values and scales of some outputs."""
    wide = weight.float()
    scales = (wide.abs().amax(-1, keepdim=True) / _LARGEST).clamp(min=_TINY)
    return (wide / scales).clamp(-_LARGEST, _LARGEST).round().to(torch.int8), scales


def _fp8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Values and scales of some outputs: the largest of a block becomes FP8's largest. The last blocks may be smaller."""
    outs, ins = weight.shape
    blocks = F.pad(weight.float(), (0, -ins % BLOCK, 0, -outs % BLOCK)).reshape(-(-outs // BLOCK), BLOCK, -1, BLOCK)
    scales = (blocks.abs().amax((1, 3)) / LARGEST).clamp(min=_TINY)
    scaled = (blocks / scales[:, None, :, None]).clamp(-LARGEST, LARGEST)
    return scaled.flatten(2).flatten(0, 1)[:outs, :ins].to(FP8), scales


def _int4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Codes and scales of some outputs: of a few scales, the one by which a group is off least."""
    outs, ins = weight.shape
    wide = weight.float().view(outs, ins // GROUP, GROUP)
    at = wide.abs().argmax(-1, keepdim=True)
    whole = wide.gather(-1, at) / -8  # by which the number farthest from 0 is -8
    whole = torch.where(whole == 0, _TINY, whole)
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
