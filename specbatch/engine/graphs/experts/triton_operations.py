"""The operations of a mixture of experts as Triton kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from specbatch.engine.graphs.describe.description import Activation, Routing
from specbatch.engine.graphs.describe.operations import Normed
from specbatch.engine.graphs.describe.triton_operations import TritonLayers, known, normed
from specbatch.engine.graphs.experts.operations import Routed
from specbatch.engine.graphs.kernels.activations import CODES
from specbatch.engine.graphs.kernels.experts import few, grouping, many, routing

_SCORED = 16  # tokens, up to which every one of them reads the router for itself
_FEW = 2  # tokens, up to which every pair reads its expert for itself


class TritonExperts(TritonLayers):
    """What stands in place of an MLP, see TritonOps."""

    def route(
        self,
        x: Tensor,
        norm: Tensor | None,
        eps: float,
        router: Tensor,
        bias: Tensor | None,
        routing_: Routing,
        slots: Tensor,
        padding: int,
    ) -> tuple[Tensor, Tensor, Routed]:
        """Norm and logits in one kernel for few tokens, the choice in another."""
        if not known(x, x) or not len(x):
            return super().route(x, norm, eps, router, bias, routing_, slots, padding)
        contiguous = x.is_contiguous() and router.is_contiguous()
        if contiguous and len(x) <= _SCORED and (norm is None or normed(x, norm)):
            ready, logits = routing.norm_scores(x, norm, eps, router)
        else:
            ready = x if norm is None else self.rms_norm(x, norm, eps)
            if x.is_cuda and x.dtype == router.dtype and x.dtype != torch.float32:
                logits = torch.mm(ready, router.t(), out_dtype=torch.float32)
            else:
                logits = torch.nn.functional.linear(ready.float(), router.float())
        return ready, logits, Routed(*routing.route(logits, bias, routing_, slots, padding))

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
            return few.experts(x, weights, chosen, gate_up, down, activation, residual), None
        count, each = len(gate_up), chosen.shape[1]
        pairs = grouping.group(chosen, count, many.block_size(chosen.numel(), count))
        fed = many.gate_up(x, pairs, each, gate_up, activation)
        given = many.down(fed, pairs, down)
        ahead = norm if norm is not None and normed(x, norm) else None
        out, after = many.combine(given, weights, chosen, count, residual, ahead, eps)
        return out, None if ahead is None else Normed(after)
