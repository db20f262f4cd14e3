"""Which quantised checkpoints are read as they are stored: what config.json says of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from specbatch.engine.fp8.linear import Scheme
from specbatch.fp8_weights import BLOCK, group_of, is_read


def scheme_of(config: Mapping[str, Any]) -> Scheme | None:
    """How a `quantization_config` keeps its linears; None where it is left to transformers and its extra packages."""
    if not is_read(config):
        return None
    if config["quant_method"] == "fp8":
        return Scheme("weight_scale_inv", _blocks, lambda *_: (BLOCK, BLOCK), lambda _: BLOCK)
    return _compressed(group_of(config))


def ignored(config: Mapping[str, Any]) -> list[str]:
    """Names, or "re:" and a pattern of names, of linears that are not quantised."""
    named = config.get("modules_to_not_convert") or config.get("ignored_layers") or config.get("ignore") or []
    return [str(name).removesuffix(".weight") for name in named]


def _compressed(one: Mapping[str, Any]) -> Scheme:
    group = _group_size(one.get("input_activations"))
    schemes = {
        "channel": Scheme("weight_scale", lambda outs, _: (outs, 1), lambda _, ins: (1, ins), group),
        "tensor": Scheme("weight_scale", lambda *_: (1,), lambda outs, ins: (outs, ins), group),
        "block": Scheme("weight_scale", _blocks, lambda *_: (BLOCK, BLOCK), group),
    }
    return schemes[one["weights"]["strategy"]]


def _group_size(inputs: Mapping[str, Any] | None) -> Callable[[int], int]:
    """Inputs of a token that share a scale, of all of them; 0: they are not rounded."""
    if inputs is None:
        return lambda _: 0
    return (lambda ins: ins) if inputs["strategy"] == "token" else (lambda _: BLOCK)


def _blocks(outs: int, ins: int) -> tuple[int, int]:
    return -(-outs // BLOCK), -(-ins // BLOCK)
