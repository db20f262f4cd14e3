"""Quantised checkpoints by what their quantization_config says: whether the native engine reads them as stored, and what else would. No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from typing import Any

from specbatch import fp8_weights, packed_weights

_RELEASE = "5.17."  # of transformers, in which it reads these methods and no others
# What it reads quantised weights with, by their quant_method. Not nvfp4: it makes such weights, and reads none.
_PACKAGES: Mapping[str, tuple[str, ...]] = {
    "awq": ("gptqmodel",),
    "gptq": ("optimum", "gptqmodel"),
    **dict.fromkeys(("bitsandbytes", "bitsandbytes_4bit", "bitsandbytes_8bit"), ("bitsandbytes",)),
    "compressed-tensors": ("compressed-tensors",),
    **dict.fromkeys(("fp8", "mxfp4", "mxfp8", "metal"), ("kernels",)),
    "hqq": ("hqq",),
    "torchao": ("torchao",),
    "quanto": ("optimum-quanto",),
    "aqlm": ("aqlm[gpu,cpu]",),
    "eetq": ("kernels",),
    "auto-round": ("auto-round",),
    "quark": ("amd-quark",),
    "vptq": ("vptq",),
    "spqr": ("spqr_quant[gpu]",),
    "sinq": ("sinq",),
    "fouroversix": ("fouroversix",),
    "fp_quant": ("fp_quant",),
    "higgs": ("flute-kernel", "fast_hadamard_transform"),
    "fbgemm_fp8": ("fbgemm-gpu",),
    **dict.fromkeys(("bitnet", "gemma", "gguf"), ()),
}
_ON_A_GPU = ", on a GPU"
_ON_ADA = ", and a GPU of compute capability 8.9 or newer"
_BESIDES = {
    **dict.fromkeys(("awq", "gptq", "eetq", "vptq", "spqr", "fp_quant", "higgs", "fbgemm_fp8"), _ON_A_GPU),
    **dict.fromkeys(("fp8", "mxfp8"), _ON_ADA),
    "mxfp4": ", and a GPU with Triton",
}
_READ = {"awq", "gptq", "compressed-tensors", "fp8"}  # by the native engine, in some of their forms
_EXPERTS = re.compile(r"(num|num_local|n_routed)_experts$")
_WIDENED = {"fp8", "mxfp4", "mxfp8", "metal"}  # by transformers, where there is no GPU or no package for them


def why_left(config: Mapping[str, Any], *, experts: bool = False) -> str | None:
    """What keeps a checkpoint of the methods that the native engine reads from being read; None where nothing does, or it is of another method.

    Args:
        config: a quantization_config.
        experts: whether the model is a mixture of experts, whose weights are no linears.
    """
    why = None
    if packed_weights.packed_weights(config) is None:
        why = packed_weights.why_left(config) or fp8_weights.why_left(config)
    if why is None and experts and str(config.get("quant_method")) in _READ:
        return "it is a mixture of experts, and dense models are read"
    return why


def left(config: Mapping[str, Any], *, experts: bool) -> str:
    """The weights that are left to transformers, in words; "" where the native engine reads them. The arguments are those of why_left."""
    method = str(config.get("quant_method"))
    if method not in _READ:
        return f"weights quantised by {method}"
    why = why_left(config, experts=experts)
    return f"weights in a form of {method} that is not read as stored ({why})" if why else ""


def has_experts(fields: Mapping[str, Any]) -> bool:
    """Whether a parsed config.json is that of a mixture of experts, by how many it has."""
    text = fields.get("text_config")
    inner = text if isinstance(text, Mapping) else fields
    return any(value for key, value in inner.items() if _EXPERTS.search(key))


def unreadable(method: str) -> str:
    """What keeps transformers from reading weights of a method here, as it follows on `left`; "" where nothing is known to."""
    if not is_known(method):
        return " that transformers does not read"
    lacking = missing(method)
    return f", and {' and '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} not installed" if lacking else ""


def is_known(method: str) -> bool:
    """Whether transformers has a way to read weights of a method, or may have, being of another release than this table."""
    release = _release("transformers")
    return method in _PACKAGES or (release is not None and not release.startswith(_RELEASE))


def needed(method: str) -> str:
    """What to install, and where, so that transformers reads weights of a method."""
    if packages := _PACKAGES.get(method):
        return f"pip install {' '.join(packages)}{_BESIDES.get(method, '')}"
    return f"what transformers needs for {method}"


def missing(method: str) -> list[str]:
    """Packages that transformers cannot read weights of a method without, and that are not installed."""
    packages = () if method in _WIDENED else _PACKAGES.get(method, ())
    return [name for package in packages if not _is_installed(name := package.partition("[")[0])]


def _is_installed(package: str) -> bool:
    """By its module, too: builds of a package have names of their own (fbgemm-gpu-genai)."""
    return _release(package) is not None or find_spec(package.replace("-", "_")) is not None


def _release(package: str) -> str | None:
    try:
        return distribution(package).version
    except PackageNotFoundError:
        return None
