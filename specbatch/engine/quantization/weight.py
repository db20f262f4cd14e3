"""A matrix in fewer bits, as a step reads it: a half or a quarter of its bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from specbatch.engine.fp8.w8a8 import product

Quantization = Literal["fp8", "int8", "int4"]


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedWeight:
    """A matrix of a linear: values, less zero points, times scales.

    values: int8 or float8_e4m3fn [outs, ins]; or uint8 [outs, ins / 2]: four bits with a sign, that of input j in the low bits of byte
        j, that of input ins / 2 + j in its high bits
    scales: of equal groups of inputs  # [ceil(outs / rows), groups]; in int4 of a checkpoint with zero points beside them [outs, groups, 2]
    rows: outputs that share scales.
    columns: inputs that do, where groups are not equal; 0: they are
    group: inputs of a token that are rounded to FP8 under a scale of their own, see fp8/w8a8.py; 0: they stay as they are
    """

    values: Tensor
    scales: Tensor
    rows: int = 1
    columns: int = 0
    group: int = 0

    @property
    def is_int4(self) -> bool:
        """Two values a byte."""
        return self.values.dtype == torch.uint8

    @property
    def quantization(self) -> Quantization:
        """What it was made by."""
        return "int4" if self.is_int4 else "int8" if self.values.dtype == torch.int8 else "fp8"

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs."""
        outs, width = self.values.shape
        return outs, width * (2 if self.is_int4 else 1)

    @property
    def int4_group(self) -> int:
        """Inputs that share a scale in int4; 0 where it is another."""
        return self.shape[1] // self.scales.shape[1] if self.is_int4 else 0

    @property
    def has_zeros(self) -> bool:
        """A zero point beside each scale."""
        return self.scales.dim() > 2

    @property
    def words_of_scales(self) -> Tensor:
        """Scales as kernels read them: one that has a zero point beside it in a word with that.  # [outs, groups]"""
        if not self.has_zeros:
            return self.scales
        return self.scales.view(torch.int64 if self.scales.element_size() == 4 else torch.int32)[..., 0]

    @property
    def words(self) -> int:
        """Words of four bytes of integers in a row of outputs; 0: they are none, or fill none."""
        width = self.values.shape[1]
        return 0 if self.values.dtype == torch.float8_e4m3fn or width % 4 else width // 4

    @property
    def nbytes(self) -> int:
        """As a step reads them."""
        return self.values.nbytes + self.scales.nbytes

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.values.device

    def is_contiguous(self) -> bool:
        """As it is made."""
        return self.values.is_contiguous() and self.scales.is_contiguous()

    def dense(self, dtype: torch.dtype) -> Tensor:
        """The matrix itself.  # [outs, ins]"""
        values = self.values
        if self.is_int4:
            values = torch.cat([values << 4, values & 0xF0], 1).view(torch.int8) >> 4
        outs, ins = self.shape
        groups = self.scales.shape[1]
        scales = self.scales.to(dtype)
        if self.columns:
            scales = scales.repeat_interleave(self.rows, 0)[:outs]
            return values.to(dtype) * scales.repeat_interleave(self.columns, 1)[:, :ins]
        grouped = values.to(dtype).view(outs, groups, ins // groups)
        if self.has_zeros:
            scales, zeros = scales.unbind(-1)
            grouped = grouped - zeros[..., None]
        return (grouped * scales[..., None]).view(outs, ins)


Weight = Tensor | QuantizedWeight


def dense(weight: Weight, dtype: torch.dtype) -> Tensor:
    """The matrix, quantized or not.  # [outs, ins]"""
    return weight.dense(dtype) if isinstance(weight, QuantizedWeight) else weight


def multiply(x: Tensor, weight: Weight, bias: Tensor | None = None) -> Tensor:
    """x @ weight.T + bias.  # [..., ins], [outs, ins] -> [..., outs]"""
    if isinstance(weight, QuantizedWeight) and weight.group:
        return product(x, weight.dense(torch.float32), weight.group, bias)
    return F.linear(x, dense(weight, x.dtype), bias)
