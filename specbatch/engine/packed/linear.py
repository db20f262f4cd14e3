"""A linear of a checkpoint of packed integers while it is loaded: parameters under the checkpoint's names; then a QuantizedLinear."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from specbatch.engine.packed import layouts
from specbatch.engine.quantization.linears import QuantizedLinear
from specbatch.engine.quantization.rounding import packed_int4
from specbatch.engine.quantization.weight import QuantizedWeight
from specbatch.errors import ModelError
from specbatch.packed_weights import PackedWeights

_ROWS = 4096  # outputs that are repacked at once: what that takes of memory is several times their own


class PackedLinear(nn.Module):
    """Takes what a checkpoint has; `loaded` is what runs.

    Args:
        linear: in whose place it is; its dtype is that of scales, in which the model runs.
        packing: of the checkpoint.
        stored: names of what it has of this linear.
    """

    def __init__(self, linear: nn.Linear, packing: PackedWeights, stored: Collection[str]) -> None:
        super().__init__()
        self.packing = packing
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.wanted = layouts.shapes(packing, self.out_features, self.in_features)
        index = layouts.index_name(packing)
        if index in stored:
            self.wanted[index] = (self.in_features,)
        for name, shape in self.wanted.items():
            dtype = linear.weight.dtype if name == layouts.scales_name(packing) else torch.int64 if name == "weight_shape" else torch.int32  # fmt: skip
            self.register_parameter(name, _parameter(torch.empty(shape, dtype=dtype)))
        biased: nn.Parameter | None = linear.bias  # typed as never None
        has_bias = biased is not None or "bias" in stored  # AutoGPTQ gives zeros to linears that have none
        self.bias = _parameter(torch.empty(self.out_features, dtype=linear.weight.dtype)) if has_bias else None
        self.own_bias = biased is not None

    def odd_shapes(self) -> dict[str, tuple[torch.Size, torch.Size]]:
        """Parameters of another size, as loaded and as they are needed."""
        loaded = {name: getattr(self, name).shape for name in self.wanted}
        return {name: (loaded[name], torch.Size(shape)) for name, shape in self.wanted.items() if loaded[name] != shape}

    def loaded(self, name: str, model: str) -> QuantizedLinear:
        """The linear that runs.

        Args:
            name: of the linear.
            model: as shown to people.

        Raises:
            ModelError: it cannot be repacked for the kernels.
        """
        tensors = {key: getattr(self, key).detach() for key in self.wanted}
        if (why := self._why_not(tensors)) is not None:
            raise ModelError(
                f"{name} {why}", where=model, remedy="set spec.engine.name to vllm, or use the unquantised model"
            )
        order = self._order(tensors)
        weight = self._repacked(tensors, order)
        bias = self.bias
        if bias is not None and not self.own_bias and not bool(bias.any()):
            bias = None
        return QuantizedLinear(weight, bias) if order is None else DescActLinear(weight, bias, order)

    def _order(self, tensors: layouts.Tensors) -> Tensor | None:
        """Inputs by group, where those of a group are no neighbours.  # int64 [K]"""
        index = tensors.get(layouts.index_name(self.packing))
        return None if index is None or bool((index[1:] >= index[:-1]).all()) else index.argsort(stable=True)

    def _why_not(self, tensors: layouts.Tensors) -> str | None:
        ins, group = self.in_features, self.packing.group or self.in_features
        index = tensors.get(layouts.index_name(self.packing))
        if index is not None and not torch.equal(index.sort().values.long(), torch.arange(ins, device=index.device) // group):  # fmt: skip
            return f"has an index of groups of which not every one has {group} inputs"
        if ins % group or (self.packing.bits == 4 and not self.packing.kept_group(ins)):
            return (
                f"has {ins} inputs in groups of {group}, and the kernels need whole groups of 32 in each half of them"
            )
        if self.packing.bits == 8 and layouts.zero_points(self.packing, tensors) is not None:
            return "has zero points beside weights of 8 bits, which the kernels do not read"
        return None

    def _repacked(self, tensors: layouts.Tensors, order: Tensor | None) -> QuantizedWeight:
        outs, ins = self.out_features, self.in_features
        is_int4 = self.packing.bits == 4
        dtype, width = (torch.uint8, ins // 2) if is_int4 else (torch.int8, ins)
        scales = layouts.scales(self.packing, tensors)
        values = torch.empty(outs, width, dtype=dtype, device=scales.device)  # before what is worked with
        for first in range(0, outs, _ROWS):
            end = min(first + _ROWS, outs)
            found = layouts.numbers(self.packing, tensors, first, end)[:, :ins]
            found = found if order is None else found[:, order]
            values[first:end] = packed_int4(found) if is_int4 else found
        if not is_int4:
            return QuantizedWeight(values, scales.float().contiguous())
        times = (self.packing.group or ins) // self.packing.kept_group(ins)
        zeros = layouts.zero_points(self.packing, tensors)
        pairs = torch.stack([scales, torch.zeros_like(scales) if zeros is None else zeros.to(scales.dtype)], -1)
        return QuantizedWeight(values, pairs.repeat_interleave(times, 1))


class DescActLinear(QuantizedLinear):
    """Of GPTQ with desc_act, or actorder group: weights stand by group, and inputs are put into that order. The general path alone runs it."""

    order: Tensor

    def __init__(self, weight: QuantizedWeight, bias: nn.Parameter | None, order: Tensor) -> None:
        super().__init__(weight, bias)
        self.register_buffer("order", order)

    def forward(self, x: Tensor) -> Tensor:
        """As its base's, of x in order.  # [..., ins] -> [..., outs]"""
        return super().forward(x.to(self.order.device).index_select(-1, self.order))


def _parameter(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)
