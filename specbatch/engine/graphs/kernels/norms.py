"""Norms that no linear takes in: behind one, added to the residual at once, and the next one's with it; and of all queries or keys, over all heads together."""

# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from specbatch.engine.graphs.kernels.overlap import overlap


def norm_add(x: Tensor, weight: Tensor, eps: float, residual: Tensor) -> Tensor:
    """residual + rms_norm(x), rounded once.  # [T, H], [H], [T, H] -> [T, H]"""
    return _add(x, weight, eps, residual, None, 0.0)[0]


def norm_add_norm(
    x: Tensor, weight: Tensor, eps: float, residual: Tensor, following: Tensor, following_eps: float
) -> tuple[Tensor, Tensor]:
    """norm_add, and the norm of that by other weights.  # [T, H], [H], [T, H], [H] -> [T, H], [T, H]"""
    return _add(x, weight, eps, residual, following, following_eps)


def _add(
    x: Tensor, weight: Tensor, eps: float, residual: Tensor, following: Tensor | None, following_eps: float
) -> tuple[Tensor, Tensor]:
    count, size = x.shape
    assert x.is_contiguous()
    assert residual.is_contiguous()
    out = x.new_empty((count, size))
    normed = out if following is None else torch.empty_like(out)
    width = triton.next_power_of_2(size)
    if count:
        _norm_add[(count,)](
            x, weight, residual, out, following, normed, eps, following_eps,
            size, width, following is not None, num_warps=_warps(width), **overlap(x.device),
        )  # fmt: skip
    return out, normed


def norm_heads(qkv: Tensor, q_norm: Tensor, k_norm: Tensor, eps: float) -> Tensor:
    """In place: the norms of all queries and of all keys.  # [T, queries, then keys, then values]"""
    queries, keys = len(q_norm), len(k_norm)
    assert qkv.stride(1) == 1
    width = triton.next_power_of_2(max(queries, keys))
    if len(qkv):
        _norm_heads[(len(qkv), 2)](
            qkv,
            q_norm,
            k_norm,
            qkv.stride(0),
            eps,
            queries,
            keys,
            width,
            num_warps=_warps(width),
            **overlap(qkv.device),
        )
    return qkv


def _warps(elements: int) -> int:
    """So many that a thread holds 16 elements, up to the hardware's good measure."""
    return max(1, min(16, elements // 512))


@triton.jit
def _normed(raw, weight, size, eps):
    """Rounded to the weight's dtype before that.  # [width] -> float32"""
    wide = raw.to(tl.float32)
    rstd = tl.math.rsqrt(tl.sum(wide * wide, 0) / size + eps)
    return (wide * rstd).to(weight.dtype).to(tl.float32) * weight.to(tl.float32)


@triton.jit
def _norm_add(
    x, weight, residual, out, following, normed, eps, following_eps,
    size: tl.constexpr, width: tl.constexpr, again: tl.constexpr, overlapped: tl.constexpr,
):  # fmt: skip
    if overlapped:
        tl.extra.cuda.gdc_wait()
    column = tl.arange(0, width)
    inside = column < size
    at = tl.program_id(0).to(tl.int64) * size + column
    raw = tl.load(x + at, inside, 0.0)
    before = tl.load(residual + at, inside, 0.0).to(tl.float32)
    y = (before + _normed(raw, tl.load(weight + column, inside, 0.0), size, eps)).to(raw.dtype)
    z = y
    if again:
        z = _normed(y, tl.load(following + column, inside, 0.0), size, following_eps).to(raw.dtype)
    if overlapped:
        tl.extra.cuda.gdc_launch_dependents()
    tl.store(out + at, y, inside)
    if again:
        tl.store(normed + at, z, inside)


@triton.jit
def _norm_heads(
    qkv, q_norm, k_norm, stride, eps,
    queries: tl.constexpr, keys: tl.constexpr, width: tl.constexpr, overlapped: tl.constexpr,
):  # fmt: skip
    if overlapped:
        tl.extra.cuda.gdc_wait()
    column = tl.arange(0, width)
    start = qkv + tl.program_id(0).to(tl.int64) * stride
    if tl.program_id(1) == 0:
        inside = column < queries
        raw = tl.load(start + column, inside, 0.0)
        y = _normed(raw, tl.load(q_norm + column, inside, 0.0), queries, eps)
        tl.store(start + column, y.to(raw.dtype), inside)
    else:
        within = column < keys
        raw_key = tl.load(start + queries + column, within, 0.0)
        z = _normed(raw_key, tl.load(k_norm + column, within, 0.0), keys, eps)
        tl.store(start + queries + column, z.to(raw_key.dtype), within)
    if overlapped:
        tl.extra.cuda.gdc_launch_dependents()
