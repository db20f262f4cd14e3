"""The operations of a mixture of experts as Triton kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from specbatch.engine.graphs.describe.description import Activation, Routing
from specbatch.engine.graphs.describe.operations import Normed
from specbatch.engine.graphs.describe.triton_operations import TritonLayers, known, normed
from specbatch.engine.graphs.experts.operations import Routed
from specbatch.engine.graphs.kernels import experts_few, experts_many, routing
from specbatch.engine.graphs.kernels.activations import CODES

_SCORED = 16  # tokens, up to which every one of them reads the router for itself
_FEW = 4  # tokens, up to which every pair reads its expert for itself


class TritonExperts(TritonLayers):
    """What stands in place of an MLP, see TritonOps."""

    def norm_scores(self, x: Tensor, norm: Tensor | None, eps: float, router: Tensor) -> tuple[Tensor, Tensor]:
        """In one kernel for few tokens."""
        here = known(x, x) and x.is_contiguous() and router.is_contiguous()
        if here and 0 < len(x) <= _SCORED and (norm is None or normed(x, norm)):
            return routing.norm_scores(x, norm, eps, router)
        ready = x if norm is None else self.rms_norm(x, norm, eps)
        if x.is_cuda and x.dtype == router.dtype and x.dtype != torch.float32:
            return ready, torch.mm(ready, router.t(), out_dtype=torch.float32)
        return ready, torch.nn.functional.linear(ready.float(), router.float())

    def route(self, logits: Tensor, bias: Tensor | None, routing_: Routing, slots: Tensor, padding: int) -> Routed:
        """As in TorchExperts."""
        if not known(logits, logits):
            return super().route(logits, bias, routing_, slots, padding)
        return Routed(*routing.route(logits, bias, routing_, slots, padding))

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
        """Few tokens read their experts one by one; more are sorted by expert, and what experts give is summed with the norm that comes next."""
        alike = known(x, gate_up) and x.is_contiguous() and (residual is None or residual.is_contiguous())
        if not alike or activation.name not in CODES or activation.numbers or not len(x):
            return super().experts(x, routed, gate_up, down, activation, residual)
        weights, chosen = routed
        if len(x) <= _FEW:
            return experts_few.experts(x, weights, chosen, gate_up, down, activation, residual), None
        count, each = len(gate_up), chosen.shape[1]
        pairs = routing.group(chosen, count, experts_many.block_size(chosen.numel(), count))
        fed = experts_many.gate_up(x, pairs, each, gate_up, activation)
        given = experts_many.down(fed, pairs, down)
        ahead = norm if norm is not None and normed(x, norm) else None
        out, after = experts_many.combine(given, weights, chosen, count, residual, ahead, eps)
        return out, None if ahead is None else Normed(after)
