"""Linears of few tokens (T <= 64): reading the weights once is all that takes time, so everything else is folded into it.

Two kernels. `_dot` feeds tiles of weights to the tensor cores as the left operand, the tokens as the right one, padded to
8, 16, 32 or 64. `_fma` is for one or two tokens: weights go straight into registers and are multiplied there. A program owns
block_n outputs over all of K, or, where outputs are too few to occupy the GPU, one of `split` stretches of K: the last of a
tile's programs to finish sums their partial results in the order of K, so that no result depends on who was first.

Names of sizes: T tokens, N outputs, K inputs; weights are [N, K], or [2 N, K] for gate and up.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from specbatch.engine.gpu.kernels.fitting import with_stages
from specbatch.engine.gpu.kernels.linear_configs import DOT_TOKENS, Config, configured
from specbatch.engine.gpu.kernels.overlap import overlap

NOTHING, BIAS, RESIDUAL = 0, 1, 2  # what is added to the products
SCRATCH = 1 << 21  # floats of partial results
TILES = 1 << 14  # counters


@triton.jit
def _write(y, up, squares, norm_size, extra, out, n, t, tokens, outs, eps, normed: tl.constexpr, gated: tl.constexpr, kind: tl.constexpr):  # fmt: skip
    """The end of every program: scale by the norm, add or gate in float32, round once.  # y, up [block_n, tokens]"""
    mask = (n < outs)[:, None] & (t < tokens)[None, :]
    at = t[None, :] * outs + n[:, None]
    if normed:
        scale = tl.rsqrt(squares / norm_size + eps)
        y = y * scale
        if gated:
            up = up * scale
    if gated:
        y = y / (1.0 + tl.exp(-y)) * up
    if kind == 1:
        y += tl.load(extra + n, mask=n < outs, other=0.0).to(tl.float32)[:, None]
    if kind == 2:
        y += tl.load(extra + at, mask=mask, other=0.0).to(tl.float32)
    tl.store(out + at, y.to(out.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["tokens"])
def _dot(
    x, norm, weight, extra, out, scratch, counters, tokens, outs, ins, eps,
    block_n: tl.constexpr, block_k: tl.constexpr, block_t: tl.constexpr, split: tl.constexpr,
    normed: tl.constexpr, gated: tl.constexpr, kind: tl.constexpr,
    even_n: tl.constexpr, even_k: tl.constexpr, overlapped: tl.constexpr,
):  # fmt: skip
    tile, part = tl.program_id(0), tl.program_id(1)
    first = tile * block_n
    row = tl.arange(0, block_n)
    n = first + row
    t = tl.arange(0, block_t)
    k = tl.arange(0, block_k)
    # Rows beyond the last read the last again: cheaper than a mask, and they are not written.
    if not even_n:
        row = tl.minimum(n, outs - 1) - first
    steps = (ins + block_k * split - 1) // (block_k * split)
    begin = part * steps * block_k
    rows = weight + first.to(tl.int64) * ins + begin
    ups = rows + tl.cast(outs, tl.int64) * ins
    if overlapped:
        tl.extra.cuda.gdc_wait()

    weights = row[:, None] * ins + k[None, :]
    inputs = t[None, :] * ins + k[:, None] + begin
    wanted = (t < tokens)[None, :]
    acc = tl.full((block_n, block_t), 0.0, tl.float32)
    acc_up = tl.full((block_n, block_t), 0.0, tl.float32)
    squares = tl.full((block_k // 8, block_t), 0.0, tl.float32)
    for step in tl.range(steps):
        offset = step * block_k
        if even_k:
            a = tl.load(rows + weights + offset, eviction_policy="evict_first")
            b = tl.load(x + inputs + offset, mask=wanted, other=0.0, eviction_policy="evict_last")
        else:
            left = ins - begin - offset
            a = tl.load(rows + weights + offset, mask=k[None, :] < left, other=0.0, eviction_policy="evict_first")
            b = tl.load(x + inputs + offset, mask=wanted & (k[:, None] < left), other=0.0, eviction_policy="evict_last")
        if normed:
            wide = b.to(tl.float32)
            # Eight neighbours lie in one thread: this sum costs no exchange between threads, nor many registers.
            squares += tl.sum(tl.reshape(wide * wide, (block_k // 8, 8, block_t)), axis=1)
            if even_k:
                factor = tl.load(norm + begin + offset + k, eviction_policy="evict_last")
            else:
                factor = tl.load(norm + begin + offset + k, mask=k < left, other=0.0, eviction_policy="evict_last")
            b = (wide * factor.to(tl.float32)[:, None]).to(b.dtype)
        acc = tl.dot(a, b, acc, input_precision="ieee")
        if gated:
            if even_k:
                c = tl.load(ups + weights + offset, eviction_policy="evict_first")
            else:
                c = tl.load(ups + weights + offset, mask=k[None, :] < left, other=0.0, eviction_policy="evict_first")
            acc_up = tl.dot(c, b, acc_up, input_precision="ieee")

    if overlapped:
        tl.extra.cuda.gdc_launch_dependents()
    if split == 1:
        total = tl.sum(squares, axis=0)[None, :]
        _write(acc, acc_up, total, ins, extra, out, n, t, tokens, outs, eps, normed, gated, kind)
    else:
        cell = tl.arange(0, block_n)[:, None] * block_t + t[None, :]
        mine = scratch + tile * (split * block_n * block_t)
        tl.store(mine + part * (block_n * block_t) + cell, acc)
        tl.debug_barrier()  # all threads' stores come before the count, which releases them
        seen = tl.atomic_add(counters + tile, 1, sem="acq_rel")
        if seen == split - 1:
            y = tl.full((block_n, block_t), 0.0, tl.float32)
            for i in tl.static_range(split):
                y += tl.load(mine + i * (block_n * block_t) + cell, cache_modifier=".cg")
            _write(y, y, 0.0, ins, extra, out, n, t, tokens, outs, eps, normed, gated, kind)
            tl.store(counters + tile, 0)  # for the next launch


@triton.jit
def _fma(
    x, norm, weight, extra, out, outs, ins, eps,
    block_n: tl.constexpr, block_k: tl.constexpr, count: tl.constexpr,
    normed: tl.constexpr, gated: tl.constexpr, kind: tl.constexpr,
    even_n: tl.constexpr, even_k: tl.constexpr, overlapped: tl.constexpr,
):  # fmt: skip
    first = tl.program_id(0) * block_n
    row = tl.arange(0, block_n)
    n = first + row
    k = tl.arange(0, block_k)
    if not even_n:
        row = tl.minimum(n, outs - 1) - first
    rows = weight + first.to(tl.int64) * ins
    ups = rows + tl.cast(outs, tl.int64) * ins
    weights = row[:, None] * ins + k[None, :]
    # One tile ahead of the sums, in registers; the first one before the kernel before this has ended.
    a = tl.load(rows + weights, mask=k[None, :] < ins, other=0.0, eviction_policy="evict_first")
    c = a
    if gated:
        c = tl.load(ups + weights, mask=k[None, :] < ins, other=0.0, eviction_policy="evict_first")
    if overlapped:
        tl.extra.cuda.gdc_wait()

    acc = tl.full((block_n, block_k), 0.0, tl.float32)
    acc_up, other, other_up = acc, acc, acc
    squares = tl.full((block_k,), 0.0, tl.float32)
    other_squares = squares
    for offset in tl.range(0, ins, block_k):
        left = ins - offset
        after = left - block_k
        if even_k:
            a_next = tl.load(
                rows + weights + offset + block_k, mask=after > 0, other=0.0, eviction_policy="evict_first"
            )
        else:
            a_next = tl.load(
                rows + weights + offset + block_k, mask=k[None, :] < after, other=0.0, eviction_policy="evict_first"
            )
        c_next = a_next
        if gated:
            if even_k:
                c_next = tl.load(
                    ups + weights + offset + block_k, mask=after > 0, other=0.0, eviction_policy="evict_first"
                )
            else:
                c_next = tl.load(
                    ups + weights + offset + block_k, mask=k[None, :] < after, other=0.0, eviction_policy="evict_first"
                )
        factor = 1.0
        if normed:
            factor = _row(norm + offset, k, left, even_k).to(tl.float32)
        wide_a, wide_c = a.to(tl.float32), c.to(tl.float32)
        b = _row(x + offset, k, left, even_k)
        wide = b.to(tl.float32)
        if normed:
            squares += wide * wide
            wide = (wide * factor).to(b.dtype).to(tl.float32)
        acc += wide_a * wide[None, :]
        if gated:
            acc_up += wide_c * wide[None, :]
        if count == 2:
            b = _row(x + ins + offset, k, left, even_k)
            wide = b.to(tl.float32)
            if normed:
                other_squares += wide * wide
                wide = (wide * factor).to(b.dtype).to(tl.float32)
            other += wide_a * wide[None, :]
            if gated:
                other_up += wide_c * wide[None, :]
        a, c = a_next, c_next

    if overlapped:
        tl.extra.cuda.gdc_launch_dependents()
    _write(
        tl.sum(acc, axis=1)[:, None], tl.sum(acc_up, axis=1)[:, None], tl.sum(squares, axis=0),
        ins, extra, out, n, tl.arange(0, 1), count, outs, eps, normed, gated, kind,
    )  # fmt: skip
    if count == 2:
        _write(
            tl.sum(other, axis=1)[:, None], tl.sum(other_up, axis=1)[:, None], tl.sum(other_squares, axis=0),
            ins, extra, out, n, tl.arange(0, 1) + 1, count, outs, eps, normed, gated, kind,
        )  # fmt: skip


@triton.jit
def _row(start, k, left, even_k: tl.constexpr):
    if even_k:
        values = tl.load(start + k, eviction_policy="evict_last")
    else:
        values = tl.load(start + k, mask=k < left, other=0.0, eviction_policy="evict_last")
    return values


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, config: Config | None = None) -> Tensor:
    """x @ weight.T + bias.  # [T, K], [N, K] -> [T, N]"""
    return _run(x, weight, None, 0.0, bias, BIAS, config)


def norm_linear(
    x: Tensor,
    norm: Tensor,
    eps: float,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    config: Config | None = None,
) -> Tensor:
    """linear(rms_norm(x)): x * norm is rounded as the reference rounds it, its scale is applied to the sums.  # [T, K], [N, K] -> [T, N]"""
    return _run(x, weight, norm, eps, bias, BIAS, config)


def linear_add(x: Tensor, weight: Tensor, residual: Tensor, *, config: Config | None = None) -> Tensor:
    """residual + x @ weight.T, rounded once.  # [T, K], [N, K], [T, N] -> [T, N]"""
    return _run(x, weight, None, 0.0, residual, RESIDUAL, config)


def norm_gated(x: Tensor, norm: Tensor, eps: float, gate_up: Tensor, *, config: Config | None = None) -> Tensor:
    """silu(gate) * up of the normed x, rounded once.  # [T, K], [2 N: gate's rows, then up's, K] -> [T, N]"""
    return _run(x, gate_up, norm, eps, None, NOTHING, config, gated=True)


def gated(x: Tensor, gate_up: Tensor, *, config: Config | None = None) -> Tensor:
    """norm_gated of what is normed already.  # [T, K], [2 N, K] -> [T, N]"""
    return _run(x, gate_up, None, 0.0, None, NOTHING, config, gated=True)


def _run(
    x: Tensor,
    weight: Tensor,
    norm: Tensor | None,
    eps: float,
    extra: Tensor | None,
    kind: int,
    config: Config | None,
    gated: bool = False,
) -> Tensor:
    tokens, ins = x.shape
    outs = weight.shape[0] // 2 if gated else weight.shape[0]
    use = config or configured(tokens, outs, ins, x.element_size(), normed=norm is not None, gated=gated)
    out = x.new_empty(tokens, outs)
    flags: dict[str, Any] = {
        "block_n": use.block_n,
        "block_k": use.block_k,
        "normed": norm is not None,
        "gated": gated,
        "kind": NOTHING if extra is None else kind,
        "even_n": outs % use.block_n == 0,
        "even_k": ins % (use.block_k * use.split) == 0,
        "num_warps": use.warps,
        **overlap(x.device),
    }
    tiles = triton.cdiv(outs, use.block_n)
    if use.fma:
        _fma[(tiles,)](x, norm, weight, extra, out, outs, ins, eps, count=tokens, **flags)
        return out
    block_t = next(size for size in DOT_TOKENS if tokens <= size)
    assert use.split == 1 or (norm is None and not gated), "these need all of K"
    assert use.split == 1 or (tiles <= TILES and tiles * use.split * use.block_n * block_t <= SCRATCH)
    partial, counters = _scratch(x.device) if use.split > 1 else (None, None)

    def run(stages: int) -> None:
        _dot[(tiles, use.split)](
            x, norm, weight, extra, out, partial, counters, tokens, outs, ins, eps,
            block_t=block_t, split=use.split, num_stages=stages, **flags,
        )  # fmt: skip

    with_stages(("linear", use, block_t, gated, x.dtype, x.device), use.stages, run)
    return out


_scratches: dict[torch.device, tuple[Tensor, Tensor]] = {}


def _scratch(device: torch.device) -> tuple[Tensor, Tensor]:
    """Partial results, and zeroed counters that every launch leaves at zero: captured graphs keep their addresses, so they stay."""
    if device not in _scratches:
        assert device.type == "cpu" or not torch.cuda.is_current_stream_capturing(), (
            "run a graph's kernels once before capture"
        )
        _scratches[device] = (
            torch.empty(SCRATCH, dtype=torch.float32, device=device),
            torch.zeros(TILES, dtype=torch.int32, device=device),
        )
    return _scratches[device]
