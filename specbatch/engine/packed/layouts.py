"""Where the integers of packed checkpoints lie, as AutoAWQ, GPTQModel and compressed-tensors write them. N outputs, K inputs, G groups.

A word of 32 bits holds 8 numbers of 4 bits, or 4 of 8, the first in the lowest; AWQ has them in another order. A weight is
(number - zero point) * scale, both of its output and its group of inputs.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from specbatch.packed_weights import PackedWeights

Tensors = Mapping[str, Tensor]

# Of the tensor of weights, by layout.
WEIGHTS = {"awq": "qweight", "gptq": "qweight", "gptq_v2": "qweight", "compressed-tensors": "weight_packed"}
_AWQ_PLACES = (0, 4, 1, 5, 2, 6, 3, 7)  # of outputs 0 to 7 in a word
# GPTQ's first form keeps one less than a zero point. GPTQModel takes that off whole words, so a zero point of 0 borrows from the next.
_LESS = {4: 0x11111111, 8: 0x01010101}
_INDEX = {"awq": "", "gptq": "g_idx", "gptq_v2": "g_idx", "compressed-tensors": "weight_g_idx"}
_SCALES = {"compressed-tensors": "weight_scale"}


def shapes(packing: PackedWeights, outs: int, ins: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a linear's tensors, its bias and its index of groups left out."""
    groups, per_word = ins // (packing.group or ins), 32 // packing.bits
    if packing.layout == "compressed-tensors":
        found: dict[str, tuple[int, ...]] = {"weight_packed": (outs, -(-ins // per_word)), "weight_scale": (outs, groups), "weight_shape": (2,)}  # fmt: skip
        return found if packing.symmetric else found | {"weight_zero_point": (-(-outs // per_word), groups)}
    weight = (ins, outs // per_word) if packing.layout == "awq" else (ins // per_word, outs)
    return {"qweight": weight, "qzeros": (groups, outs // per_word), "scales": (groups, outs)}


def scales_name(packing: PackedWeights) -> str:
    """Of the tensor that is floating point."""
    return _SCALES.get(packing.layout, "scales")


def index_name(packing: PackedWeights) -> str:
    """Of the tensor that says each input's group, which a checkpoint may have; empty: none has."""
    return _INDEX[packing.layout]


def numbers(packing: PackedWeights, tensors: Tensors, first: int, end: int) -> Tensor:
    """Of some outputs, less the middle.

    Args:
        packing: how they are packed.
        tensors: of a linear, by name.
        first: output, a multiple of 8.
        end: the output behind the last.

    Returns:
        int8 [end - first, K]
    """
    per_word = 32 // packing.bits
    if packing.layout == "awq":
        found = _in_order(_unpacked(tensors["qweight"][:, first // per_word : -(-end // per_word)], 4)).t()[
            : end - first
        ]
    elif packing.layout == "compressed-tensors":
        found = _unpacked(tensors["weight_packed"][first:end], packing.bits)
    else:
        found = _unpacked(tensors["qweight"][:, first:end].t(), packing.bits)
    return _less_middle(found, packing.bits)


def scales(packing: PackedWeights, tensors: Tensors) -> Tensor:
    """[N, G]"""
    found = tensors[scales_name(packing)]
    return found if packing.layout == "compressed-tensors" else found.t()


def zero_points(packing: PackedWeights, tensors: Tensors) -> Tensor | None:
    """Less the middle, int8 [N, G]; None where all are the middle."""
    if packing.layout == "compressed-tensors":
        words = tensors.get("weight_zero_point")
        packed = None if words is None else words.t()
    else:
        packed = tensors["qzeros"]
        if packing.layout == "gptq":
            packed = packed + _LESS[packing.bits]
    if packed is None:
        return None
    found = _unpacked(packed, packing.bits)
    zeros = _less_middle(_in_order(found) if packing.layout == "awq" else found, packing.bits).t()
    return zeros[: len(scales(packing, tensors))] if bool(zeros.any()) else None


def _unpacked(words: Tensor, bits: int) -> Tensor:
    """The numbers of words, the lowest first.  # int32 [..., n] -> uint8 [..., n * 32 / bits]"""
    whole = words.contiguous().view(torch.uint8)
    return whole if bits == 8 else torch.stack((whole & 15, whole >> 4), -1).flatten(-2)


def _in_order(found: Tensor) -> Tensor:
    """AWQ's numbers by output.  # [n, N]"""
    of_words: Tensor = found.view(*found.shape[:-1], -1, 8)
    return of_words[..., list(_AWQ_PLACES)].flatten(-2)


def _less_middle(found: Tensor, bits: int) -> Tensor:
    """uint8 of so many bits -> int8"""
    return found.view(torch.int8) - 8 if bits == 4 else (found ^ 128).view(torch.int8)
