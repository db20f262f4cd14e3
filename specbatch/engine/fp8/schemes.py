"""Which quantised checkpoints are read as they are stored: what config.json says of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from specbatch.engine.fp8.linear import Scheme

BLOCK = 128  # of the kernels


def scheme_of(config: Mapping[str, Any]) -> Scheme | None:
    """How a `quantization_config` keeps its linears; None where it is left to transformers and its extra packages."""
    read = {"fp8": _block_scaled, "compressed-tensors": _compressed}.get(str(config.get("quant_method")))
    return read(config) if read else None


def ignored(config: Mapping[str, Any]) -> list[str]:
    """Names, or "re:" and a pattern of names, of linears that are not quantised."""
    named = config.get("modules_to_not_convert") or config.get("ignored_layers") or config.get("ignore") or []
    return [str(name).removesuffix(".weight") for name in named]


def _block_scaled(config: Mapping[str, Any]) -> Scheme | None:
    """DeepSeek's and Qwen3's: weights in blocks of 128 x 128, inputs in groups of 128, scales of each token's own."""
    known = (
        list(config.get("weight_block_size") or []) == [BLOCK, BLOCK]
        and str(config.get("activation_scheme", "dynamic")).lower() == "dynamic"
        and config.get("scale_fmt", "float") == "float"
        and config.get("fmt", "e4m3") == "e4m3"
        and not config.get("modules_to_convert")
        and not config.get("dequantize")
    )
    return Scheme("weight_scale_inv", _blocks, lambda *_: (BLOCK, BLOCK), lambda _: BLOCK) if known else None


def _compressed(config: Mapping[str, Any]) -> Scheme | None:
    """llm-compressor's FP8_DYNAMIC and FP8_BLOCK: one group for all linears, inputs scaled by token or not at all."""
    groups = list((config.get("config_groups") or {}).values())
    plain = config.get("format", "float-quantized") in ("float-quantized", "naive-quantized")
    if len(groups) != 1 or not plain or config.get("kv_cache_scheme") or groups[0].get("output_activations"):
        return None
    weights, inputs = groups[0].get("weights") or {}, groups[0].get("input_activations")
    group = _group_size(inputs)
    if groups[0].get("targets") != ["Linear"] or not _is_fp8(weights) or weights.get("dynamic") or group is None:
        return None
    blocks = inputs is not None and list(weights.get("block_structure") or []) == [BLOCK, BLOCK]
    schemes = {
        "channel": Scheme("weight_scale", lambda outs, _: (outs, 1), lambda _, ins: (1, ins), group),
        "tensor": Scheme("weight_scale", lambda *_: (1,), lambda outs, ins: (outs, ins), group),
        "block": Scheme("weight_scale", _blocks, lambda *_: (BLOCK, BLOCK), group) if blocks else None,
    }
    return schemes.get(str(weights.get("strategy")))


def _group_size(inputs: Mapping[str, Any] | None) -> Callable[[int], int] | None:
    """Inputs of a token that share a scale, of all of them; None where that is another rule."""
    if inputs is None:
        return lambda _: 0
    if not _is_fp8(inputs) or inputs.get("dynamic") is not True:
        return None
    if inputs.get("strategy") == "token":
        return lambda ins: ins
    return (lambda _: BLOCK) if inputs.get("strategy") == "group" and inputs.get("group_size") == BLOCK else None


def _is_fp8(arguments: Mapping[str, Any]) -> bool:
    return arguments.get("type") == "float" and arguments.get("num_bits") == 8 and arguments.get("symmetric", True) is True  # fmt: skip


def _blocks(outs: int, ins: int) -> tuple[int, int]:
    return -(-outs // BLOCK), -(-ins // BLOCK)
