"""The operations of layers that are not built like Llama's in plain PyTorch, see reference."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from specbatch.engine.graphs.describe.activations import activate
from specbatch.engine.graphs.describe.description import SILU, Activation


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Root mean square norm (Zhang, Sennrich 2019), computed in float32; rounded to the weights' dtype before these.  # [T, H]"""
    wide = x.float()
    return ((wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(weight.dtype) * weight).to(x.dtype)


class Normed(NamedTuple):
    """What a norm behind a linear has worked out for the norm that follows it: all of it.

    x: what that one gives  # [T, H]
    """

    x: Tensor


class TorchLayers:
    """Norms behind linears, norms over all heads, other activations, caps."""

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """See rms_norm."""
        return rms_norm(x, weight, eps)

    def norm_add(self, x: Tensor, weight: Tensor, eps: float, residual: Tensor) -> Tensor:
        """residual + rms_norm(x); what was the residual is not used again.  # [T, H]"""
        return residual + rms_norm(x, weight, eps)

    def norm_add_ahead(
        self, x: Tensor, weight: Tensor, eps: float, residual: Tensor, norm: Tensor, norm_eps: float
    ) -> tuple[Tensor, Normed | None]:
        """norm_add, and what spares the norm that comes next; None where there is no such thing.

        Args:
            x: [T, H]
            weight: of the norm  # [H]
            eps: of it.
            residual: not used again  # [T, H]
            norm: weights of the norm that comes next  # [H]
            norm_eps: of that.
        """
        del norm, norm_eps
        return self.norm_add(x, weight, eps, residual), None

    def norm_heads(self, qkv: Tensor, q_norm: Tensor, k_norm: Tensor, eps: float) -> Tensor:
        """The norms of all queries and of all keys, over all heads at once.  # [T, queries, then keys, then values]"""
        queries, keys = len(q_norm), len(k_norm)
        q, k, v = qkv.split([queries, keys, qkv.shape[1] - queries - keys], dim=1)
        return torch.cat([rms_norm(q, q_norm, eps), rms_norm(k, k_norm, eps), v], dim=1)

    def activate(self, x: Tensor, activation: Activation) -> Tensor:
        """The activation of each number.  # [T, I]"""
        return activate(x, activation)

    def gate(self, gate_up: Tensor, activation: Activation = SILU) -> Tensor:
        """activation(gate) * up.  # [T, 2 I: gate, then up] -> [T, I]"""
        gate, up = gate_up.chunk(2, dim=-1)
        return activate(gate, activation) * up

    def softcap(self, x: Tensor, cap: float) -> Tensor:
        """cap * tanh(x / cap).  # [T, vocab]"""
        return cap * torch.tanh(x / cap)
