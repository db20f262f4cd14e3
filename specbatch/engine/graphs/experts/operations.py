"""The operations of a mixture of experts in plain PyTorch, see reference.

Shapes are static and nothing is read on the host: they can be recorded. E experts of a layer, K of a token.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from specbatch.engine.graphs.describe.activations import activate
from specbatch.engine.graphs.describe.description import Activation, Routing
from specbatch.engine.graphs.describe.operations import Normed, rms_norm
from specbatch.engine.graphs.experts.routing import choose


class Routed(NamedTuple):
    """Where tokens go.

    weights: of what their experts give; 0 where there is none  # float32 [T, K]
    experts: E: none, since the token is filler  # int32 [T, K]
    """

    weights: Tensor
    experts: Tensor


class TorchExperts:
    """Router and experts."""

    def route(
        self,
        x: Tensor,
        norm: Tensor | None,
        eps: float,
        router: Tensor,
        bias: Tensor | None,
        routing: Routing,
        slots: Tensor,
        padding: int,
    ) -> tuple[Tensor, Tensor, Routed]:
        """The norm of the hidden states, or these as they are, and the experts of each token.

        Args:
            x: [T, H]
            norm: its weights  # [H]
            eps: of the norm.
            router: the experts' rows come first  # [E or more, H]
            bias: added to the scores that choose  # [E]
            routing: how.
            slots: of each token  # int64 [T]
            padding: the slot whose tokens go nowhere.

        Returns:
            normed [T, H], the products with the router float32 [T, E or more], where tokens go
        """
        normed = x if norm is None else rms_norm(x, norm, eps)
        logits = F.linear(normed.float(), router.float())
        weights, experts = choose(logits[:, : routing.experts], None if bias is None else bias.float(), routing)
        filler = (slots == padding)[:, None]
        routed = Routed(weights.masked_fill(filler, 0.0), experts.masked_fill(filler, routing.experts).int())
        return normed, logits, routed

    def experts(
        self,
        x: Tensor,
        routed: Routed,
        gate_up: Tensor,
        down: Tensor,
        activation: Activation,
        residual: Tensor | None,
        norm: Tensor | None = None,
        eps: float = 0.0,
    ) -> tuple[Tensor, Normed | None]:
        """residual + the sum of weight * down(activation(gate) * up) of each token's experts; and what spares the norm that comes next.

        Args:
            x: [T, H]
            routed: from route.
            gate_up: gate's rows, then up's  # [E, 2 I, H]
            down: [E, H, I]
            activation: of the gate.
            residual: not used again; None for 0  # [T, H]
            norm: weights of the norm that comes next, if any  # [H]
            eps: of it.
        """
        del norm, eps
        total = torch.zeros(x.shape, dtype=torch.float32, device=x.device)
        for expert in range(len(gate_up)):
            weight = torch.where(routed.experts == expert, routed.weights, 0.0).sum(-1, keepdim=True)
            gate, up = F.linear(x, gate_up[expert]).chunk(2, dim=-1)
            given = F.linear(activate(gate, activation) * up, down[expert]).float()
            total = total + torch.where(weight == 0, 0.0, weight * given)  # what others would give may not be finite
        out = total if residual is None else total + residual.float()
        return out.to(x.dtype), None
