"""Synthetic models whose linears are FP8 in blocks of 128 x 128, as Qwen/Qwen3-8B-FP8 keeps them, with inputs rounded in groups of 128."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from specbatch.engine.fp8.w8a8 import FP8, LARGEST
from specbatch.engine.quantization.linears import QuantizedLinear
from specbatch.engine.quantization.weight import QuantizedWeight

BLOCK = 128


def in_blocks(weight: Tensor, rows: int = BLOCK, columns: int = BLOCK, group: int = BLOCK) -> QuantizedWeight:
    """A weight rounded to FP8, each block under the scale that brings its largest to FP8's largest.  # [N, K]"""
    outs, ins = weight.shape
    padded = F.pad(weight.detach().float(), (0, -ins % columns, 0, -outs % rows))
    blocks = padded.unflatten(1, (-1, columns)).unflatten(0, (-1, rows))
    scales = blocks.abs().amax((1, 3)).clamp(min=1e-12) / LARGEST
    values = (blocks / scales[:, None, :, None]).flatten(2).flatten(0, 1)[:outs, :ins].to(FP8)
    return QuantizedWeight(values.contiguous(), scales, rows, columns, group)


@torch.no_grad()
def quantize_layers(model: Any, rounded: Callable[[Tensor], QuantizedWeight] = in_blocks) -> None:
    """Rounds all linears but the head, one after the other."""
    for path in [path for path, module in model.named_modules() if type(module) is nn.Linear and path != "lm_head"]:
        module = model.get_submodule(path)
        model.set_submodule(path, QuantizedLinear(rounded(module.weight), module.bias))
