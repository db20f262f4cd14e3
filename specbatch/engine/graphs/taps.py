"""The inputs of some of a target's layers, kept from a forward for a head that drafts from them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Taps:
    """Where one forward leaves them.

    layers: by number; one more than the last: what that leaves
    hidden: their inputs, beside each other  # [T, layers * hidden]
    """

    layers: tuple[int, ...]
    hidden: Tensor

    def keep(self, layer: int, hidden: Tensor) -> None:
        """Copies the input of a layer, if it is one of these: later layers add to it in place.  # [T, hidden]"""
        width = hidden.shape[1]
        for place, tapped in enumerate(self.layers):
            if tapped == layer:
                self.hidden[:, place * width : (place + 1) * width].copy_(hidden)
