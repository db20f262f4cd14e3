"""The activations that a description knows, in plain PyTorch; and which of them a module is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from specbatch.engine.graphs.describe.description import Activation, NotDescribedError

_GRID = torch.linspace(-6, 6, 97)  # 0 is among them


def _relu2(x: Tensor) -> Tensor:
    return F.relu(x).square()


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


_PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu_tanh": _gelu_tanh,
    "gelu": F.gelu,
    "relu2": _relu2,
}


def activate(x: Tensor, activation: Activation) -> Tensor:
    """The activation of each number, in float32 where it has numbers of its own."""
    if activation.name in _PLAIN:
        return _PLAIN[activation.name](x)
    assert activation.name == "xielu"
    positive, negative, beta, eps = activation.numbers  # arXiv 2411.13010
    wide = x.float()
    below = (torch.expm1(wide.clamp(max=eps)) - wide) * negative + beta * wide
    return torch.where(wide > 0, positive * wide * wide + beta * wide, below).to(x.dtype)


@torch.no_grad()
def activation_of(module: Any) -> Activation:
    """The activation that a module computes, found by its values.

    Raises:
        NotDescribedError: none that is known here.
    """
    module = copy.deepcopy(module).to("cpu", torch.float32)
    values = type(module).forward(module, _GRID)
    known = [Activation(name) for name in _PLAIN]
    if hasattr(module, "alpha_p") and hasattr(module, "alpha_n"):
        known.append(Activation("xielu", _xielu(module)))
    for one in known:
        if torch.allclose(activate(_GRID, one), values, rtol=1e-5, atol=1e-6):
            return one
    raise NotDescribedError(f"its activation is {type(module).__name__}")


def _xielu(module: Any) -> tuple[float, ...]:
    positive, negative = (float(F.softplus(weight)) for weight in (module.alpha_p, module.alpha_n))
    return positive, float(module.beta) + negative, float(module.beta), float(module.eps)
