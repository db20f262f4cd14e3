"""Quantised checkpoints by what their quantization_config says: whether the native engine reads them as stored, and what else would. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

from specbatch import fp8_weights, packed_weights

# What transformers reads quantised weights with, by their quant_method.
_PACKAGES = {
    "awq": ("gptqmodel",),
    "gptq": ("optimum", "gptqmodel"),
    "bitsandbytes": ("bitsandbytes",),
    "compressed-tensors": ("compressed-tensors",),
    "fp8": ("kernels",),
    "mxfp4": ("kernels",),
    "hqq": ("hqq",),
    "torchao": ("torchao",),
    "quanto": ("optimum-quanto",),
    "aqlm": ("aqlm[gpu,cpu]",),
    "eetq": ("kernels",),
    "auto-round": ("auto-round",),
    "quark": ("amd-quark",),
}
_BESIDES = {
    "awq": ", on a GPU",
    "gptq": ", on a GPU",
    "fp8": ", and a GPU of compute capability 8.9 or newer",
    "mxfp4": ", and a GPU with Triton",
    "eetq": ", on a GPU",
}
_WIDENED = {"fp8", "mxfp4"}  # by transformers, where there is no GPU or no package for them


def why_left(config: Mapping[str, Any]) -> str | None:
    """What keeps a checkpoint of the methods that the native engine reads from being read; None where nothing does, or it is of another method."""
    if packed_weights.packed_weights(config) is not None:
        return None
    return packed_weights.why_left(config) or fp8_weights.why_left(config)


def left(config: Mapping[str, Any], *, experts: bool) -> str:
    """The weights that are left to transformers, in words; "" where the native engine reads them.

    Args:
        config: a quantization_config.
        experts: whether the model is a mixture of experts, whose weights are no linears.
    """
    method = str(config.get("quant_method"))
    if method not in {"awq", "gptq", "compressed-tensors", "fp8"}:
        return f"weights quantised by {method}"
    why = why_left(config) or ("it is a mixture of experts" if experts else None)
    return f"weights in a form of {method} that is not read as stored ({why})" if why else ""


def needed(method: str) -> str:
    """What to install, and where, so that transformers reads weights of a method."""
    packages = _PACKAGES.get(method)
    if packages is None:
        return f"what transformers needs for {method}"
    return f"pip install {' '.join(packages)}{_BESIDES.get(method, '')}"


def missing(method: str) -> list[str]:
    """Packages that transformers cannot read weights of a method without, and that are not installed."""
    packages = () if method in _WIDENED else _PACKAGES.get(method, ())
    return [name for package in packages if not _is_installed(name := package.partition("[")[0])]


def _is_installed(package: str) -> bool:
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True
