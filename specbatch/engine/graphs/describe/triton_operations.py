"""The operations of operations.py as Triton kernels, for a layer's activations in dtypes that they know."""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import torch
import triton
from torch import Tensor

from specbatch.engine.graphs.describe.description import SILU, Activation
from specbatch.engine.graphs.describe.operations import Normed
from specbatch.engine.graphs.kernels import activations, elementwise, norms
from specbatch.engine.graphs.kv.paging import Pages
from specbatch.engine.graphs.reference import TorchOps

DTYPES = (torch.bfloat16, torch.float16, torch.float32)


def known(x: Tensor, other: Tensor) -> bool:
    """Whether there are kernels for these dtypes where they are."""
    return x.dtype in DTYPES and x.dtype == other.dtype and (x.is_cuda or triton.knobs.runtime.interpret)


def knows(x: Tensor, pages: Pages, layer: int) -> bool:
    """Whether there are kernels for activations and a layer's pages of these dtypes."""
    return known(x, x if pages.key_scales else pages.keys[layer])


def normed(x: Tensor, norm: Tensor) -> bool:
    """Whether there are kernels for a norm of these; its weights may be wider."""
    return known(x, x) and norm.dtype in (x.dtype, torch.float32)


def _adds(x: Tensor, weight: Tensor, residual: Tensor) -> bool:
    return normed(x, weight) and x.is_contiguous() and residual.is_contiguous() and residual.dtype == x.dtype


class TritonLayers(TorchOps):
    """What stands between the linears, see TritonOps."""

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """As in TorchOps."""
        return elementwise.rms_norm(x, weight, eps) if normed(x, weight) else super().rms_norm(x, weight, eps)

    def norm_add(self, x: Tensor, weight: Tensor, eps: float, residual: Tensor) -> Tensor:
        """As in TorchOps."""
        known = _adds(x, weight, residual)
        run = norms.norm_add if known else super().norm_add
        return run(x, weight, eps, residual)

    def norm_add_ahead(
        self, x: Tensor, weight: Tensor, eps: float, residual: Tensor, norm: Tensor, norm_eps: float
    ) -> tuple[Tensor, Normed | None]:
        """Both norms in one kernel."""
        if not (_adds(x, weight, residual) and normed(x, norm)):
            return super().norm_add_ahead(x, weight, eps, residual, norm, norm_eps)
        out, after = norms.norm_add_norm(x, weight, eps, residual, norm, norm_eps)
        return out, Normed(after)

    def norm_heads(self, qkv: Tensor, q_norm: Tensor, k_norm: Tensor, eps: float) -> Tensor:
        """In place where a kernel does it."""
        run = norms.norm_heads if normed(qkv, q_norm) else super().norm_heads
        return run(qkv, q_norm, k_norm, eps)

    def activate(self, x: Tensor, activation: Activation) -> Tensor:
        """As in TorchOps."""
        run = activations.activate if known(x, x) else super().activate
        return run(x, activation)

    def gate(self, gate_up: Tensor, activation: Activation = SILU) -> Tensor:
        """As in TorchOps."""
        run = activations.gate if known(gate_up, gate_up) else super().gate
        return run(gate_up, activation)

    def softcap(self, x: Tensor, cap: float) -> Tensor:
        """As in TorchOps."""
        run = activations.softcap if known(x, x) else super().softcap
        return run(x, cap)
