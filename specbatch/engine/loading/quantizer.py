"""transformers loads a quantised checkpoint with our linears in it: a quantiser of its own kind, registered under a name of ours.

Its own need packages: `kernels`, which fetches code from the hub, `gptqmodel` or `compressed-tensors`; and of FP8 they multiply on a CPU in
bfloat16 what a GPU rounds to FP8 first: another model. With ours a checkpoint is the same model everywhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.quantizers.quantizers_utils import should_convert_module
from transformers.utils.quantization_config import QuantizationConfigMixin

from specbatch.engine.fp8.linear import Scheme, StoredLinear
from specbatch.engine.fp8.schemes import ignored, scheme_of
from specbatch.engine.packed.layouts import WEIGHTS
from specbatch.engine.packed.linear import PackedLinear
from specbatch.errors import ModelError
from specbatch.packed_weights import PackedWeights, packed_weights

_METHOD = "specbatch"
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")  # whose weights are no linears in transformers
_INDEX, _WHOLE = "model.safetensors.index.json", "model.safetensors"
_OF_TEXT = re.compile(r"(^|\.)language_model\.")  # in names of a model of text and more, whose module names lack it

_Names = Mapping[str, Collection[str]]


@register_quantization_config(_METHOD)
class StoredConfig(QuantizationConfigMixin):  # type: ignore[misc]  # transformers has no types
    """A checkpoint's own quantization_config, under our method's name.

    name: of the model, as shown to people.
    packed: linears of packed integers by name, and the names of what the files have of each
    odd: what a load found, see odd_shapes.
    """

    def __init__(self, **stored: Any) -> None:
        self.stored: dict[str, Any] = stored.get("stored", {})
        self.name: str = stored.get("name", "")
        self.packed: _Names = stored.get("packed", {})
        self.quant_method = _METHOD
        self.odd: set[tuple[str, torch.Size, torch.Size]] = set()


@register_quantizer(_METHOD)
class StoredQuantizer(HfQuantizer):  # type: ignore[misc]  # transformers has no types
    """Puts a linear with the checkpoint's tensors where it has quantised weights, and when these are there a QuantizedLinear."""

    is_trainable = False

    def is_serializable(self) -> bool:
        """Saved as it was loaded, but for the method's name: not for others to read."""
        return False

    def _process_model_before_weight_loading(self, model: Any, **_: Any) -> None:
        stored, packed = self.quantization_config.stored, self.quantization_config.packed
        scheme, packing = scheme_of(stored), packed_weights(stored)
        names = ignored(stored) or self.get_modules_to_not_convert(model)
        for name, module in list(model.named_modules()):
            if type(module) is not nn.Linear:
                continue
            if scheme is not None and _is_quantised(name, names):
                model.set_submodule(name, _in_fp8(module, scheme))
            elif packing is not None and _as_text(name) in packed:
                model.set_submodule(name, _of_integers(module, packing, packed[_as_text(name)]))

    def _process_model_after_weight_loading(self, model: Any, **_: Any) -> Any:
        config = self.quantization_config
        for name, module in list(model.named_modules()):
            if not isinstance(module, StoredLinear | PackedLinear):
                continue
            odd = module.odd_shapes()
            config.odd |= {(f"{name}.{key}", *shapes) for key, shapes in odd.items()}
            if odd:
                continue
            linear = module.loaded() if isinstance(module, StoredLinear) else module.loaded(name, config.name)
            model.set_submodule(name, linear)
        return model


def as_stored(config: Any, path: Path, name: str) -> bool:
    """Makes transformers load a model's quantised linears as they are stored, where these are of the kinds that we multiply.

    Args:
        config: of the model, whose quantization_config is replaced.
        path: its folder.
        name: as shown to people.

    Returns:
        whether it was; else transformers has its own way, and may need packages for it

    Raises:
        ModelError: config.json says that linears are packed, and the files have none.
    """
    stored, text = getattr(config, "quantization_config", None), config.get_text_config()
    if not isinstance(stored, dict) or any(getattr(text, key, None) for key in _EXPERTS):
        return False
    packing = packed_weights(stored)
    if packing is None and scheme_of(stored) is None:
        return False
    packed = {} if packing is None else _packed_names(path, packing)
    if packing is not None and not packed:
        raise ModelError(
            f"config.json says that weights are quantised ({stored['quant_method']}), and the files have no {WEIGHTS[packing.layout]} of any",
            where=name,
            remedy="config.json must be that of these weights: download both again, or take quantization_config out of it",
        )
    config.quantization_config = {"quant_method": _METHOD, "stored": stored, "name": name, "packed": packed}
    return True


def odd_shapes(model: Any) -> set[tuple[str, torch.Size, torch.Size]]:
    """(name, as loaded, as its linear needs it) of weights and scales of another size, of a model that was loaded as_stored."""
    config = getattr(model.config, "quantization_config", None)
    return config.odd if isinstance(config, StoredConfig) else set()


def _packed_names(path: Path, packing: PackedWeights) -> _Names:
    """Of the linears of which the files have packed weights: which those are config.json says in too many ways."""
    if (path / _WHOLE).is_file():
        with safe_open(path / _WHOLE, "pt") as tensors:
            keys = list(tensors.keys())
    else:
        keys = list(json.loads((path / _INDEX).read_text(encoding="utf-8"))["weight_map"])
    found: dict[str, set[str]] = {}
    for key in keys:
        linear, _, own = _as_text(key).rpartition(".")
        found.setdefault(linear, set()).add(own)
    return {linear: own for linear, own in found.items() if WEIGHTS[packing.layout] in own}


def _as_text(name: str) -> str:
    return _OF_TEXT.sub(r"\1", name)


def _is_quantised(name: str, ignored_names: Iterable[str]) -> bool:
    patterns = [pattern for pattern in ignored_names if not pattern.startswith("re:")]
    expressions = [pattern.removeprefix("re:") for pattern in ignored_names if pattern.startswith("re:")]
    return should_convert_module(name, patterns) and not any(re.match(each, name) for each in expressions)


def _in_fp8(module: nn.Linear, scheme: Scheme) -> StoredLinear:
    with torch.device("meta"):
        return StoredLinear(module.in_features, module.out_features, scheme, bias=module.bias is not None)


def _of_integers(module: nn.Linear, packing: PackedWeights, stored: Collection[str]) -> PackedLinear:
    with torch.device("meta"):
        return PackedLinear(module, packing, stored)
