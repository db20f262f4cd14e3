"""The inputs of some of a model's layers, kept from its last forward: what an EAGLE-3 head drafts from."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle


class Taps:
    """Hooks before layers; none, and no cost, until `set` names some.

    Args:
        model: of transformers.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._handles: list[RemovableHandle] = []
        self._inputs: list[Tensor] = []

    def set(self, layers: Sequence[int]) -> bool:
        """Taps these layers and no others, the model's last norm being the one after the last; False where the model does not keep its layers in a list `layers`."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._inputs = [], [torch.empty(0)] * len(layers)
        base = self._model.base_model
        found: Any = [*getattr(base, "layers", ()), *([base.norm] if hasattr(base, "norm") else [])]
        if layers and max(layers) >= len(found):
            return False
        for place, layer in enumerate(layers):
            hook = partial(self._keep, place)
            self._handles.append(found[layer].register_forward_pre_hook(hook, with_kwargs=True))
        return True

    def joined(self, device: torch.device) -> Tensor:
        """The inputs of the last forward, beside each other.  # [n, tokens, layers * hidden]"""
        return torch.cat([states.to(device) for states in self._inputs], -1)

    def _keep(self, place: int, _module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._inputs[place] = args[0] if args else kwargs["hidden_states"]
