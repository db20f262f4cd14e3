"""int4 weights made as wide as the tokens, for cuBLAS: of more tokens than the other kernels take. A launch, which reads them once."""

# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from specbatch.engine.graphs.kernels.linears.linear_integers import native
from specbatch.engine.graphs.kernels.linears.linear_widen import of_groups, widen_int4
from specbatch.engine.graphs.kernels.overlap import overlap
from specbatch.engine.quantization.weight import QuantizedWeight, Weight

_OUTS, _BYTES = 8, 512  # of a program


def wide(weight: Weight, x: Tensor) -> Weight:
    """The matrix in the dtype of x, where it is int4 and a kernel takes it; else the weight as it is.  # [N, K]"""
    takes = x.dtype in {torch.bfloat16, torch.float16} and (x.is_cuda or triton.knobs.runtime.interpret)
    return widened(weight, x.dtype) if takes and isinstance(weight, QuantizedWeight) and weight.is_int4 else weight


def widened(weight: QuantizedWeight, dtype: torch.dtype) -> Tensor:
    """An int4 matrix in another dtype.  # [N, K]"""
    outs, ins = weight.shape
    device = weight.device
    out = torch.empty(outs, ins, dtype=dtype, device=device)
    _widen_kernel[(triton.cdiv(outs, _OUTS), triton.cdiv(ins // 2, _BYTES))](
        weight.values, weight.words_of_scales, out, outs, ins,
        height=_OUTS, width=_BYTES, int4_group=weight.int4_group, native=native(device), num_warps=4, **overlap(device),
    )  # fmt: skip
    return out


@triton.jit
def _widen_kernel(
    values, scales, out, outs, ins,
    height: tl.constexpr, width: tl.constexpr, int4_group: tl.constexpr, native: tl.constexpr, overlapped: tl.constexpr,
):  # fmt: skip
    """Some outputs' inputs from both halves: `width` bytes of each."""
    if overlapped:
        tl.extra.cuda.gdc_wait()
    n = tl.program_id(0) * height + tl.arange(0, height)
    first = tl.program_id(1) * width
    k = first + tl.arange(0, width)
    half = tl.multiple_of(ins // 2, 32)  # since inputs are a multiple of 64
    mask = (n < outs)[:, None] & (k < half)[None, :]
    n = tl.minimum(n, outs - 1)
    codes = tl.load(values + n.to(tl.int64)[:, None] * half + k[None, :], mask=mask, other=0)
    groups = ins // int4_group
    lines = n[:, None] * groups
    dtype = out.dtype.element_ty
    zeroed: tl.constexpr = scales.dtype.element_ty.is_int()
    low, high, zero, zero_high = of_groups(scales, lines, first // int4_group, groups, width // int4_group, dtype)
    at = out + n.to(tl.int64)[:, None] * ins + k[None, :]
    tl.store(at, widen_int4(codes, low, zero, zeroed, 0, dtype, native), mask=mask)
    tl.store(at + half, widen_int4(codes, high, zero_high, zeroed, 4, dtype, native), mask=mask)
