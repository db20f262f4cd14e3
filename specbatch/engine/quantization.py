"""Linears with weights of fewer bits, made when a model is loaded: what a step reads of them is a half or a quarter.

Round to nearest, symmetric: int8 and fp8 (e4m3) with a scale for each output, int4 with one for each group of inputs of an output.
Activations stay as they are. Embeddings stay, too: a step reads one row of them; a head that is tied to one gets weights of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from specbatch.engine.fp8.w8a8 import product
from specbatch.engine.memory import free_cached
from specbatch.errors import ModelError

Quantization = Literal["fp8", "int8", "int4"]

GROUP = 32  # inputs that share a scale in int4
_LARGEST = {"fp8": 448.0, "int8": 127.0}
_SHARES = (1.0, 0.93, 0.86, 0.8)  # of the scale by which nothing is cut off
_ROWS = 8192  # outputs that are rounded at once: what that takes of memory is several times their own


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


class QuantizedLinear(nn.Module):
    """In the place of a linear. Buffers, so that nothing takes them for weights of the model's dtype."""

    values: Tensor
    scales: Tensor

    def __init__(self, weight: QuantizedWeight, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.register_buffer("values", weight.values)
        self.register_buffer("scales", weight.scales)
        self.rows, self.columns, self.group = weight.rows, weight.columns, weight.group
        self.bias = bias

    @property
    def weight(self) -> QuantizedWeight:
        """The matrix."""
        return QuantizedWeight(self.values, self.scales, self.rows, self.columns, self.group)

    def forward(self, x: Tensor) -> Tensor:
        """x @ weight.T + bias, on the weights' device.  # [..., ins] -> [..., outs]"""
        return multiply(x.to(self.values.device), self.weight, self.bias)


def quantize_linears(model: Any, quantization: Quantization, name: str) -> None:
    """Replaces all linears of a loaded model, one after the other.

    Args:
        model: of transformers, its weights in floating point.
        quantization: of their weights.
        name: of the model, as shown to people.

    Raises:
        ModelError: there is a matrix that is none of a linear, or one that cannot be packed.
    """
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    for path in [path for path, module in model.named_modules() if type(module) is nn.Linear]:
        module = model.get_submodule(path)  # no list of them, which would keep the weights
        _check(path, module, quantization, name)
        parent, _, own = path.rpartition(".")
        weight = quantize(module.weight, quantization)
        setattr(model.get_submodule(parent), own, QuantizedLinear(weight, module.bias))
        del module
        free_cached(weight.device)  # or the next one's weights are put into it
    left = next(_matrices(model, embeddings), None)
    if left is not None:
        raise ModelError(
            f"drafter.quantization rounds the weights of linears, and {left} is none",
            where=name,
            remedy="leave drafter.quantization out for this model",
        )


def _check(path: str, module: nn.Linear, quantization: Quantization, name: str) -> None:
    if not module.weight.is_floating_point() or module.weight.element_size() < 2:
        raise ModelError(
            f"the weights of {path} are {str(module.weight.dtype)[6:]}, and drafter.quantization starts from bfloat16 or float32",
            where=name,
            remedy="leave drafter.quantization out, or name the unquantized model",
        )
    if quantization == "int4" and module.in_features % (2 * GROUP):
        raise ModelError(
            f"{path} has {module.in_features} inputs, and int4 needs a multiple of {2 * GROUP}",
            where=name,
            remedy="set drafter.quantization to int8",
        )


def _matrices(model: Any, embeddings: set[int]) -> Iterator[str]:
    for path, parameter in model.named_parameters():
        if parameter.dim() > 1 and id(parameter) not in embeddings:
            yield path
