"""FP8 linears of many tokens: by cuBLAS, which takes blocks' scales as they are from CUDA 12.9 on Hopper; else after weights are made wide."""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
import triton
from torch import Tensor

from specbatch.engine.fp8.w8a8 import FP8
from specbatch.engine.graphs.kernels.linears.w8a8_inputs import widen
from specbatch.engine.graphs.kernels.overlap import overlap
from specbatch.engine.graphs.linears.w8a8_configs import GROUP
from specbatch.engine.quantization.weight import QuantizedWeight

if TYPE_CHECKING:
    from specbatch.engine.graphs.linears.w8a8 import Rounded


def by_blocks(tokens: int, weight: QuantizedWeight, dtype: torch.dtype) -> bool:
    """Whether cuBLAS multiplies these as they are: scales of blocks of 128 x 128 and groups of 128, four groups and four tokens at a time."""
    outs, ins = weight.shape
    blocks = weight.rows == weight.columns == weight.group == GROUP
    return (
        blocks
        and tokens % 4 == 0
        and outs % GROUP == 0
        and ins % (4 * GROUP) == 0
        and dtype != torch.float16
        and _has_blocks(weight.device)
    )


@cache
def _has_blocks(device: torch.device) -> bool:
    cuda = tuple(map(int, (torch.version.cuda or "0.0").split(".")[:2]))
    return (
        device.type == "cuda"
        and hasattr(F, "scaled_mm")
        and cuda >= (12, 9)
        and torch.cuda.get_device_capability(device) == (9, 0)
    )


def multiplied(
    x: Rounded, weight: QuantizedWeight, bias: Tensor | None = None, residual: Tensor | None = None
) -> Tensor:
    """x @ weight.T + bias or residual, which is overwritten.  # [T, K], [N, K] -> [T, N]"""
    if x.values.dtype != FP8:
        wide = widened(weight, x.dtype)
        return F.linear(x.values, wide, bias) if residual is None else residual.addmm_(x.values, wide.t())
    assert x.scales is not None
    scaling: Any = F.ScalingType
    product: Tensor = F.scaled_mm(
        x.values, weight.values.t(), x.scales, scaling.BlockWise1x128, weight.scales.t(), scaling.BlockWise128x128,
        output_dtype=x.dtype,
    )  # fmt: skip
    other = bias if residual is None else residual
    return product if other is None else product.add_(other)


def widened(weight: QuantizedWeight, dtype: torch.dtype) -> Tensor:
    """The weights in a dtype that cuBLAS multiplies; for the time of one product.  # [N, K]"""
    outs, ins = weight.shape
    columns, width = weight.scales.shape[1], min(1024, max(GROUP, triton.next_power_of_2(ins)))
    out = torch.empty(outs, ins, dtype=dtype, device=weight.device)
    widen[(outs, triton.cdiv(ins, width))](
        weight.values, weight.scales, out, ins, columns, weight.rows,
        width=width, by_group=columns > 1, num_warps=2, **overlap(weight.device),
    )  # fmt: skip
    return out
