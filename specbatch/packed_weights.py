"""Checkpoints whose weights are packed integers, of AWQ, GPTQ and compressed-tensors: what their quantization_config says. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Layout = Literal["awq", "gptq", "gptq_v2", "compressed-tensors"]

_STEP = 32  # inputs: groups are multiples of so many
_GROUPS = (128, 64, 32)  # that kernels take


@dataclass(frozen=True, slots=True)
class PackedWeights:
    """How linears are packed.

    layout: by which tensors are named and integers lie in their words
    bits: of a weight; 8 with one scale an output alone
    group: inputs that share a scale and a zero point; 0: all
    symmetric: every zero point is the middle
    """

    layout: Layout
    bits: int
    group: int
    symmetric: bool

    def kept_group(self, ins: int) -> int:
        """Inputs that share a scale in memory: of int4 half a linear's inputs are whole groups; 0: there is no such group."""
        of = self.group or ins
        return next((size for size in _GROUPS if of % size == 0 and ins % (2 * size) == 0), 0)

    @property
    def kept_bits(self) -> float:
        """Of a weight in memory, with its part of scales and zero points, 16 bits each."""
        if self.bits == 8:
            return 8.0
        return 4 + 32 / next(size for size in _GROUPS if (self.group or 128) % size == 0)


def packed_weights(config: Mapping[str, Any]) -> PackedWeights | None:
    """What a quantization_config says; None where it is of another kind, or of a variant that is left to transformers."""
    found = _read(config)
    return found if isinstance(found, PackedWeights) else None


def why_left(config: Mapping[str, Any]) -> str | None:
    """What keeps a checkpoint of AWQ, GPTQ or packed compressed-tensors from being read as it is stored; None where nothing does, or it is none."""
    found = _read(config)
    return found if isinstance(found, str) else None


def _read(config: Mapping[str, Any]) -> PackedWeights | str | None:
    read = {"awq": _awq, "gptq": _gptq, "compressed-tensors": _compressed}.get(str(config.get("quant_method")))
    found = read(config) if read else None
    if not isinstance(found, PackedWeights):
        return found
    if found.bits not in {4, 8}:
        return f"it has {found.bits} bits a weight, not 4 or 8"
    if found.group < 0 or found.group % _STEP:
        return f"it has groups of {found.group} inputs, and multiples of {_STEP} are read"
    if found.bits == 8 and (found.group or not found.symmetric):
        return "its 8 bits a weight have scales by group or zero points, and one scale an output is read"
    return found


def _awq(config: Mapping[str, Any]) -> PackedWeights | str:
    version = str(config.get("version") or config.get("format") or "gemm").lower()
    if version != "gemm":
        return f"it is packed for the kernel {version}, and gemm is read"
    if config.get("zero_point", True) is not True:
        return "it has no zero points (zero_point: false)"
    bits = config.get("bits", config.get("w_bit", 4))
    if (why := _no_number(config, "bits", "w_bit", "group_size", "q_group_size")) is not None:
        return why
    if bits != 4:
        return f"it has {bits} bits a weight, and AWQ is read with 4"
    return PackedWeights("awq", 4, _group(config.get("group_size", config.get("q_group_size", 128))), symmetric=False)


def _gptq(config: Mapping[str, Any]) -> PackedWeights | str:
    form = str(config.get("checkpoint_format") or config.get("format") or "gptq").lower()
    if form not in {"gptq", "gptq_v2"} or config.get("is_marlin_format"):
        return f"it is packed as {form if form not in {'gptq', 'gptq_v2'} else 'marlin'}, and gptq and gptq_v2 are read"
    if str(config.get("pack_dtype") or "int32") != "int32":
        return f"it is packed in words of {config['pack_dtype']}, and int32 is read"
    overridden = [name for name in config.get("dynamic") or {} if not str(name).startswith("-:")]
    if overridden:
        return f"its linears are not quantised alike (dynamic: {overridden[0]})"
    if (why := _no_number(config, "bits", "group_size")) is not None:
        return why
    layout: Layout = "gptq" if form == "gptq" else "gptq_v2"
    group = _group(config.get("group_size", -1))
    return PackedWeights(layout, _number(config.get("bits")), group, symmetric=config.get("sym", True) is True)


def _compressed(config: Mapping[str, Any]) -> PackedWeights | str | None:
    groups = list((config.get("config_groups") or {}).values())
    one: Mapping[str, Any] = groups[0] if groups else {}
    if (one.get("format") or config.get("format")) != "pack-quantized":
        return None
    weights = one.get("weights") or {}
    strategy = weights.get("strategy")
    kinds = {
        f"its linears are quantised in {len(groups)} ways (config_groups)": len(groups) != 1,
        "activations are quantised, too": one.get("input_activations") or one.get("output_activations"),
        "it has scales of a quantised KV cache (kv_cache_scheme)": config.get("kv_cache_scheme"),
        "inputs are transformed (transform_config)": (config.get("transform_config") or {}).get("config_groups"),
        "it is sparse (sparsity_config)": (config.get("sparsity_config") or {}).get("format", "dense") != "dense",
        f"its weights are {weights.get('type')}, and int is read": weights.get("type", "int") != "int",
        f"it has scales by {strategy}, and group and channel are read": strategy not in {"group", "channel"},
    }
    if (why := next((why for why, is_so in kinds.items() if is_so), None)) is not None:
        return why
    if (why := _no_number(weights, "num_bits", *(["group_size"] if strategy == "group" else []))) is not None:
        return why
    group = _group(weights.get("group_size")) if strategy == "group" else 0
    symmetric = weights.get("symmetric", True) is True
    return PackedWeights("compressed-tensors", _number(weights.get("num_bits")), group, symmetric=symmetric)


def _no_number(config: Mapping[str, Any], *names: str) -> str | None:
    """Which of these is there and no whole number."""
    wrong = (name for name in names if config.get(name) is not None and type(config[name]) is not int)
    return next((f"its {name} is {config[name]!r}, and must be a number" for name in wrong), None)


def _group(size: Any) -> int:
    """Of a config, where -1 or nothing is all inputs."""
    number = _number(size)
    return 0 if size is None or number == -1 else number or -1


def _number(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
