"""Checkpoints in FP8, block-scaled and of compressed-tensors: what of their quantization_config is not read as it is stored. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BLOCK = 128  # outputs and inputs that share a scale, of the kernels
_FORMATS = ("float-quantized", "naive-quantized")


def why_left(config: Mapping[str, Any]) -> str | None:
    """What keeps a checkpoint of these methods from being read as FP8; None where nothing does, or it is of another method."""
    read = {"fp8": _block_scaled, "compressed-tensors": _compressed}.get(str(config.get("quant_method")))
    return next((why for why, is_so in read(config).items() if is_so), None) if read else None


def is_read(config: Mapping[str, Any]) -> bool:
    """Whether linears are kept in FP8 and multiplied so."""
    return config.get("quant_method") in {"fp8", "compressed-tensors"} and why_left(config) is None


def group_of(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The first of compressed-tensors' config_groups."""
    groups = config.get("config_groups")
    return _mapping(next(iter(groups.values()), None)) if isinstance(groups, Mapping) else {}


def _block_scaled(config: Mapping[str, Any]) -> dict[str, bool]:
    """DeepSeek's and Qwen3's are read: weights in blocks of 128 x 128, inputs in groups of 128, scales of each token's own."""
    block, scales, form = config.get("weight_block_size"), config.get("scale_fmt", "float"), config.get("fmt", "e4m3")
    inputs = str(config.get("activation_scheme", "dynamic")).lower()
    shown = " x ".join(map(str, block)) if isinstance(block, list | tuple) else block
    return {
        f"it has one scale a weight (no weight_block_size), and blocks of {BLOCK} x {BLOCK} are read": not block,
        f"it has blocks of {shown} (weight_block_size), and {BLOCK} x {BLOCK} is read": shown != f"{BLOCK} x {BLOCK}",
        f"scales of its inputs are {inputs} (activation_scheme), and dynamic is read": inputs != "dynamic",
        f"its scales are {scales} (scale_fmt), and float is read": scales != "float",
        f"its numbers are {form} (fmt), and e4m3 is read": form != "e4m3",
        "it names the linears that are quantised (modules_to_convert)": bool(config.get("modules_to_convert")),
        "it asks to be widened (dequantize)": bool(config.get("dequantize")),
    }


def _compressed(config: Mapping[str, Any]) -> dict[str, bool]:
    """llm-compressor's FP8_DYNAMIC and FP8_BLOCK are read: one group for all linears, inputs scaled by token or not at all."""
    groups, one, form = config.get("config_groups") or {}, group_of(config), config.get("format", _FORMATS[0])
    weights, inputs = _mapping(one.get("weights")), one.get("input_activations")
    strategy, block = weights.get("strategy"), weights.get("block_structure")
    targets = one.get("targets")
    named = ", ".join(map(str, targets)) if isinstance(targets, list) else targets
    of_inputs = None if inputs is None else _why_inputs(_mapping(inputs))
    return {
        f"it is stored as {form} (format), and pack-quantized, float-quantized and naive-quantized are read": form
        not in _FORMATS,
        f"its linears are quantised in {len(groups)} ways (config_groups)": len(groups) != 1,
        "it has scales of a quantised KV cache (kv_cache_scheme)": bool(config.get("kv_cache_scheme")),
        "its outputs are quantised, too (output_activations)": bool(one.get("output_activations")),
        f"it names its linears by {named} (targets), and Linear is read": targets != ["Linear"],
        f"its weights are {_type(weights)}, and FP8 is read": not is_fp8(weights) or bool(weights.get("dynamic")),
        str(of_inputs): of_inputs is not None,
        f"it has scales by {strategy} (strategy), and channel, tensor and block are read": strategy
        not in {"channel", "tensor", "block"},
        f"it has blocks of {block} (block_structure), and {BLOCK} x {BLOCK} with rounded inputs is read": strategy
        == "block"
        and (block != [BLOCK, BLOCK] or inputs is None),
    }


def _why_inputs(inputs: Mapping[str, Any]) -> str | None:
    """What of input_activations is not read."""
    strategy, size = inputs.get("strategy"), inputs.get("group_size")
    if not is_fp8(inputs):
        return f"its inputs are {_type(inputs)} (input_activations), and FP8 is read"
    if inputs.get("dynamic") is not True:
        return "scales of its inputs are static (input_activations), and dynamic is read"
    if strategy == "token" or (strategy == "group" and size == BLOCK):
        return None
    of = f"{strategy} of {size}" if strategy == "group" else strategy
    return f"scales of its inputs are by {of} (input_activations), and token and group of {BLOCK} are read"


def is_fp8(arguments: Mapping[str, Any]) -> bool:
    """Whether compressed-tensors' arguments of weights or inputs are those of e4m3."""
    return arguments.get("type") == "float" and arguments.get("num_bits") == 8 and arguments.get("symmetric", True) is True  # fmt: skip


def _type(arguments: Mapping[str, Any]) -> str:
    dynamic = "dynamic " if arguments.get("dynamic") else ""
    uneven = "" if arguments.get("symmetric", True) is True else ", not symmetric"
    return f"{dynamic}{arguments.get('type')} of {arguments.get('num_bits')} bits{uneven}"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
