"""Activations, alone or as gates, in one pass over memory; and caps on logits. Rounded where the reference rounds."""

# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from specbatch.engine.graphs.describe.description import SILU, Activation
from specbatch.engine.graphs.kernels.overlap import overlap

_FEW = 16  # tokens, up to which a program takes little, so that there are enough of them
_BLOCK = 2048  # elements that a program of 4 warps holds well
CODES = {"silu": 0, "gelu_tanh": 1, "gelu": 2, "relu2": 3, "xielu": 4}
_CAP = 5  # tanh


def gate(gate_up: Tensor, activation: Activation = SILU) -> Tensor:
    """activation(gate) * up.  # [T, 2 I: gate, then up] -> [T, I]"""
    return _run(gate_up, gate_up.shape[1] // 2, CODES[activation.name], activation.numbers, gated=True)


def activate(x: Tensor, activation: Activation) -> Tensor:
    """The activation of each number.  # [T, I]"""
    return _run(x, x.shape[1], CODES[activation.name], activation.numbers, gated=False)


def softcap(x: Tensor, cap: float) -> Tensor:
    """cap * tanh(x / cap).  # [T, vocab]"""
    return _run(x, x.shape[1], _CAP, (cap,), gated=False)


def _run(x: Tensor, size: int, code: int, numbers: tuple[float, ...], *, gated: bool) -> Tensor:
    count = x.shape[0]
    if x.stride(1) != 1:
        x = x.contiguous()
    out = x.new_empty((count, size))
    width = min(512 if count <= _FEW else _BLOCK, triton.next_power_of_2(size))
    if count:
        _activate[(count, triton.cdiv(size, width))](
            x, out, x.stride(0), *(*numbers, 0.0, 0.0, 0.0, 0.0)[:4],
            size, width, code, gated, num_warps=max(1, min(16, width // 512)), **overlap(x.device),
        )  # fmt: skip
    return out


@triton.jit
def tanh(x):
    """Accurate to 1e-7 of 1, without overflow."""
    down = tl.exp(-2.0 * tl.abs(x))
    size = (1.0 - down) / (1.0 + down)
    return tl.where(x < 0, -size, size)


@triton.jit
def activated(x, a, b, c, d, code: tl.constexpr):
    """The activation of a code, of float32; xielu's numbers are a to d."""
    if code == 0:
        x = x / (1.0 + tl.exp(-x))
    elif code == 1:
        x = 0.5 * x * (1.0 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))
    elif code == 2:
        x = 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    elif code == 3:
        x = tl.maximum(x, 0.0)
        x = x * x
    elif code == 4:
        low = tl.minimum(x, d)
        # exp(x) - 1 by its series where that cancels.
        below = tl.where(low > -0.01, low * (1.0 + low * (0.5 + low * 0.16666667)), tl.exp(low) - 1.0)
        x = tl.where(x > 0, a * x * x, (below - x) * b) + c * x
    else:
        x = a * tanh(x / a)
    return x


@triton.jit
def _activate(
    x, out, stride, a, b, c, d,
    size: tl.constexpr, width: tl.constexpr, code: tl.constexpr, gated: tl.constexpr, overlapped: tl.constexpr,
):  # fmt: skip
    if overlapped:
        tl.extra.cuda.gdc_wait()
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * width + tl.arange(0, width)
    mask = columns < size
    raw = tl.load(x + row * stride + columns, mask, 0.0)
    up = raw
    if gated:
        up = tl.load(x + row * stride + size + columns, mask, 0.0)
    y = activated(raw.to(tl.float32), a, b, c, d, code)
    if gated:
        y = y.to(raw.dtype).to(tl.float32) * up.to(tl.float32)
    if overlapped:
        tl.extra.cuda.gdc_launch_dependents()
    tl.store(out + row * size + columns, y.to(raw.dtype), mask)
