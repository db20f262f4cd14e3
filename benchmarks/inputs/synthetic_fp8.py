"""Synthetic models whose linears are FP8 in blocks of 128 x 128, as Qwen/Qwen3-8B-FP8 keeps them, with inputs rounded in groups of 128."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from specbatch.engine.quantization.linears import QuantizedLinear
from specbatch.engine.quantization.rounding import quantize
from specbatch.engine.quantization.weight import QuantizedWeight


def in_blocks(weight: Tensor) -> QuantizedWeight:
    """A weight rounded to FP8, each block under the scale that brings its largest to FP8's largest.  # [N, K]"""
    return quantize(weight, "fp8")


@torch.no_grad()
def quantize_layers(model: Any, rounded: Callable[[Tensor], QuantizedWeight] = in_blocks) -> None:
    """Rounds all linears but the head, one after the other."""
    for path in [path for path, module in model.named_modules() if type(module) is nn.Linear and path != "lm_head"]:
        module = model.get_submodule(path)
        model.set_submodule(path, QuantizedLinear(rounded(module.weight), module.bias))
