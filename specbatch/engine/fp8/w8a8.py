"""FP8 weights times inputs that are rounded to FP8, in plain PyTorch: what the kernels are held against. T tokens, N outputs, K inputs.

This is the model that a W8A8 checkpoint is: products of FP8 numbers, summed in float32, times the scales of both, as transformers'
finegrained_fp8 and vLLM compute it on a GPU.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FP8 = torch.float8_e4m3fn
LARGEST = torch.finfo(FP8).max


def product(x: Tensor, weight: Tensor, group: int, bias: Tensor | None = None) -> Tensor:
    """x, rounded, @ weight.T + bias; rounded once to the dtype of x.

    Args:
        x: [..., K]
        weight: with its scales in it, in float32  # [N, K]
        group: inputs of a token that share a scale.
        bias: [N]
    """
    values, scales = round_inputs(x, group)
    wide = values.float() * scales.repeat_interleave(group, -1)[..., : x.shape[-1]]
    return F.linear(wide, weight, None if bias is None else bias.float()).to(x.dtype)


def round_inputs(x: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """Rounds inputs to FP8 under the scale that brings the largest of each group to FP8's largest.

    Args:
        x: [..., K]
        group: inputs that share a scale.

    Returns:
        values, float8_e4m3fn [..., K]; scales, float32 [..., ceil(K / group)]
    """
    ins = x.shape[-1]
    wide = F.pad(x.float(), (0, -ins % group)).unflatten(-1, (-1, group))
    most = wide.abs().amax(-1)
    # By a tensor: by a number, CUDA multiplies with its inverse, which rounds twice, and halves would be rounded otherwise than on a CPU.
    scales = torch.where(most > 0, most, 1.0) / torch.full_like(most, LARGEST)
    values = (wide / scales[..., None]).clamp(-LARGEST, LARGEST).flatten(-2)[..., :ins]
    return values.to(FP8), scales
