"""Experts of very few tokens: every pair of a token and an expert reads the expert for itself, since hardly two tokens share one.

What is read hangs on the router, so nothing can be asked for before it has chosen. The second kernel asks for its weights while the first one is at work:
that one lets it start once the choice is there.

Names of sizes: T tokens, E experts, K of a token, H hidden size, I intermediate size of an expert.
"""

# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from specbatch.engine.graphs.describe.description import Activation
from specbatch.engine.graphs.kernels.activations import CODES, activated
from specbatch.engine.graphs.kernels.overlap import overlap

_GATED = (4, 2048, 4)  # outputs and inputs of a tile, warps: of weights of two bytes
_DOWN = (4, 1024, 4)
_AHEAD = 8  # tiles of the second kernel that registers hold while the first is at work


def experts(
    x: Tensor, weights: Tensor, chosen: Tensor, gate_up: Tensor, down: Tensor, activation: Activation,
    residual: Tensor | None, *, tiles: tuple[tuple[int, int, int], tuple[int, int, int]] = (_GATED, _DOWN),
) -> Tensor:  # fmt: skip
    """See TorchExperts.experts.

    Args:
        x: [T, H]
        weights: float32 [T, K]
        chosen: E: none  # int32 [T, K]
        gate_up: [E, 2 I, H]
        down: [E, H, I]
        activation: of the gate.
        residual: [T, H]
        tiles: of both kernels.

    Returns:
        [T, H]
    """
    tokens, hidden = x.shape
    count, _, inner = down.shape
    each = chosen.shape[1]
    (gate_n, gate_k, gate_warps), (down_n, down_k, down_warps) = tiles
    gate_k, down_k = min(gate_k, triton.next_power_of_2(hidden)), min(down_k, triton.next_power_of_2(inner))
    fed = x.new_empty(tokens * each, inner)
    _gate_up[(triton.cdiv(inner, gate_n), tokens * each)](
        x, chosen, gate_up, fed, inner, hidden,
        count=count, each=each, block_n=gate_n, block_k=gate_k, steps=triton.cdiv(hidden, gate_k),
        even=hidden % gate_k == 0, activation=CODES[activation.name], num_warps=gate_warps, **overlap(x.device),
    )  # fmt: skip
    out = torch.empty_like(x)
    _down[(triton.cdiv(hidden, down_n), tokens)](
        fed, weights, chosen, down, residual, out, hidden, inner,
        count=count, each=each, block_n=down_n, block_k=down_k, steps=triton.cdiv(inner, down_k),
        adds=residual is not None, ahead=each * triton.cdiv(inner, down_k) <= _AHEAD, num_warps=down_warps, **overlap(x.device),
    )  # fmt: skip
    return out


@triton.jit
def _gate_up(
    x, chosen, weight, out, outs, ins,
    count: tl.constexpr, each: tl.constexpr, block_n: tl.constexpr, block_k: tl.constexpr, steps: tl.constexpr,
    even: tl.constexpr, activation: tl.constexpr, overlapped: tl.constexpr,
):  # fmt: skip
    if overlapped:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()  # what was chosen is there: the next kernel may read it
    pair = tl.program_id(1)
    expert = tl.load(chosen + pair)
    n = tl.program_id(0) * block_n + tl.arange(0, block_n)
    row = tl.minimum(n, outs - 1)
    k = tl.arange(0, block_k)
    taken = expert < count
    rows = weight + tl.minimum(expert, count - 1).to(tl.int64) * (2 * outs) * ins + row[:, None] * ins + k[None, :]
    ups = rows + outs * ins
    inputs = x + (pair // each).to(tl.int64) * ins + k
    gate = tl.full((block_n,), 0.0, tl.float32)
    up = tl.full((block_n,), 0.0, tl.float32)
    for step in tl.static_range(steps):
        offset = step * block_k
        wanted = taken & (k + offset < ins) if not even else taken & (k >= 0)
        a = tl.load(rows + offset, mask=wanted[None, :], other=0.0, eviction_policy="evict_first")
        c = tl.load(ups + offset, mask=wanted[None, :], other=0.0, eviction_policy="evict_first")
        b = tl.load(inputs + offset, mask=wanted, other=0.0, eviction_policy="evict_last").to(tl.float32)
        gate += tl.sum(a.to(tl.float32) * b[None, :], axis=1)
        up += tl.sum(c.to(tl.float32) * b[None, :], axis=1)
    y = activated(gate, 0.0, 0.0, 0.0, 0.0, activation) * up
    tl.store(out + pair.to(tl.int64) * outs + n, y.to(out.dtype.element_ty), mask=n < outs)


@triton.jit
def _down(
    x, weights, chosen, weight, residual, out, outs, ins,
    count: tl.constexpr, each: tl.constexpr, block_n: tl.constexpr, block_k: tl.constexpr, steps: tl.constexpr,
    adds: tl.constexpr, ahead: tl.constexpr, overlapped: tl.constexpr,
):  # fmt: skip
    """A token's outputs over all of its experts. What was chosen is there before this starts, see _gate_up."""
    if overlapped:
        tl.extra.cuda.gdc_launch_dependents()
    token = tl.program_id(1)
    n = tl.program_id(0) * block_n + tl.arange(0, block_n)
    first = token * each
    rows = weight + tl.minimum(n, outs - 1)[:, None] * ins
    sums = tl.full((block_n, block_k), 0.0, tl.float32)
    if ahead:
        loaded = ()
        for j in tl.static_range(each * steps):
            a = _weights(rows, chosen + first + j // steps, j % steps, outs, ins, count, block_k)
            loaded = loaded + (a,)  # type: ignore[assignment]  # noqa: RUF005  # Triton knows neither
        if overlapped:
            tl.extra.cuda.gdc_wait()
        for j in tl.static_range(each * steps):
            sums += _products(loaded[j], x, weights, first + j // steps, j % steps, ins, block_k)
    else:
        if overlapped:
            tl.extra.cuda.gdc_wait()
        for j in tl.range(0, each):
            for step in tl.range(0, steps):
                a = _weights(rows, chosen + first + j, step, outs, ins, count, block_k)
                sums += _products(a, x, weights, first + j, step, ins, block_k)
    total = tl.sum(sums, axis=1)
    at = token.to(tl.int64) * outs + n
    if adds:
        total += tl.load(residual + at, mask=n < outs, other=0.0).to(tl.float32)
    tl.store(out + at, total.to(out.dtype.element_ty), mask=n < outs)


@triton.jit
def _weights(rows, chosen, step, outs, ins, count: tl.constexpr, block_k: tl.constexpr):
    """An expert's; of none, nothing is read.  # [block_n, block_k]"""
    expert = tl.load(chosen)
    k = step * block_k + tl.arange(0, block_k)
    mask = (expert < count) & (k < ins)
    start = rows + tl.minimum(expert, count - 1).to(tl.int64) * outs * ins
    return tl.load(start + k[None, :], mask=mask[None, :], other=0.0, eviction_policy="evict_first")


@triton.jit
def _products(a, x, weights, pair, step, ins, block_k: tl.constexpr):
    """Weighted.  # [block_n, block_k]"""
    k = step * block_k + tl.arange(0, block_k)
    b = tl.load(x + pair.to(tl.int64) * ins + k, mask=k < ins, other=0.0).to(tl.float32)
    return a.to(tl.float32) * (b * tl.load(weights + pair))[None, :]
