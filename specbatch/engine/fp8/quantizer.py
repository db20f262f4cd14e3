"""transformers loads a quantised checkpoint with our linears in it: a quantiser of its own kind, registered under a name of ours.

Its own needs the package `kernels`, which fetches code from the hub, or `compressed-tensors`, and multiplies on a CPU in bfloat16 what a
GPU rounds to FP8 first: another model. With ours a checkpoint is the same model everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.quantizers.quantizers_utils import should_convert_module
from transformers.utils.quantization_config import QuantizationConfigMixin

from specbatch.engine.fp8.linear import Scheme, StoredLinear
from specbatch.engine.fp8.schemes import ignored, scheme_of

_METHOD = "specbatch-fp8"
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")  # whose weights are no linears in transformers


@register_quantization_config(_METHOD)
class StoredConfig(QuantizationConfigMixin):  # type: ignore[misc]  # transformers has no types
    """A checkpoint's own quantization_config, under our method's name; `odd` is what a load found, see odd_shapes."""

    def __init__(self, **stored: Any) -> None:
        self.stored: dict[str, Any] = stored.get("stored", {})
        self.quant_method = _METHOD
        self.odd: set[tuple[str, torch.Size, torch.Size]] = set()


@register_quantizer(_METHOD)
class StoredQuantizer(HfQuantizer):  # type: ignore[misc]  # transformers has no types
    """Puts a StoredLinear where the checkpoint has quantised weights, and when these are there a QuantizedLinear."""

    is_trainable = False

    def is_serializable(self) -> bool:
        """Saved as it was loaded, but for the method's name: not for others to read."""
        return False

    def _process_model_before_weight_loading(self, model: Any, **_: Any) -> None:
        stored = self.quantization_config.stored
        scheme = scheme_of(stored)
        assert scheme is not None, "as_stored gave it"
        names = ignored(stored) or self.get_modules_to_not_convert(model)
        for name, module in list(model.named_modules()):
            if type(module) is nn.Linear and _is_quantised(name, names):
                model.set_submodule(name, _stand_in(module, scheme))

    def _process_model_after_weight_loading(self, model: Any, **_: Any) -> Any:
        for name, module in list(model.named_modules()):
            if isinstance(module, StoredLinear):
                odd = module.odd_shapes()
                self.quantization_config.odd |= {(f"{name}.{key}", *shapes) for key, shapes in odd.items()}
                if not odd:
                    model.set_submodule(name, module.loaded())
        return model


def as_stored(config: Any) -> bool:
    """Makes transformers load a model's quantised linears as they are stored, where these are of the kinds that we multiply.

    Args:
        config: of the model, whose quantization_config is replaced.

    Returns:
        whether it was; else transformers has its own way, and may need packages for it
    """
    stored, text = getattr(config, "quantization_config", None), config.get_text_config()
    if not isinstance(stored, dict) or scheme_of(stored) is None or any(getattr(text, name, None) for name in _EXPERTS):
        return False
    config.quantization_config = {"quant_method": _METHOD, "stored": stored}
    return True


def odd_shapes(model: Any) -> set[tuple[str, torch.Size, torch.Size]]:
    """(name, as loaded, as its linear needs it) of weights and scales of another size, of a model that was loaded as_stored."""
    config = getattr(model.config, "quantization_config", None)
    return config.odd if isinstance(config, StoredConfig) else set()


def _is_quantised(name: str, ignored_names: Iterable[str]) -> bool:
    patterns = [pattern for pattern in ignored_names if not pattern.startswith("re:")]
    expressions = [pattern.removeprefix("re:") for pattern in ignored_names if pattern.startswith("re:")]
    return should_convert_module(name, patterns) and not any(re.match(each, name) for each in expressions)


def _stand_in(module: nn.Linear, scheme: Scheme) -> StoredLinear:
    with torch.device("meta"):
        return StoredLinear(module.in_features, module.out_features, scheme, bias=module.bias is not None)
