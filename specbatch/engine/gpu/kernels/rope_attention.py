"""Rotation, write to the pages and attention of rows' next few tokens in one kernel, where a kernel's boundary costs as much as its work.

The program with a row's newest pages rotates the new keys, writes them, and takes them into the softmax from its registers, so
that no program waits for another. Each program rotates the queries of its own tile. Rounded where elementwise.rope_write rounds.
"""

# ruff: noqa: ANN001, ANN202, N803 - what a Triton kernel takes has no Python types, and its constants are capitals
# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from specbatch.engine.gpu.kernels.attention import (
    ARRIVALS,
    LEAST,
    LOG2_E,
    MASKED,
    Launch,
    arrivals_of,
    finish,
    over_pages,
    rows_launch,
    share_out,
)
from specbatch.engine.gpu.kernels.overlap import overlap
from specbatch.engine.gpu.paging import PAGE, Pages

NEW = 16  # new tokens of a row, at the most


def rope_attend_rows(
    qkv: Tensor,
    q_norm: Tensor | None,
    k_norm: Tensor | None,
    eps: float,
    rope: Tensor,
    pages: Pages,
    layer: int,
    slots: Tensor,
    first: Tensor,
    scale: float,
    launch: Launch | None = None,
) -> Tensor:
    """TorchOps.rope_attend_rows; calls of one device must follow each other, and the first must not be captured.

    Args:
        qkv: [B * n, (heads + 2 kv_heads) * D], n <= NEW
        q_norm: of each head  # [D]
        k_norm: the same.
        eps: of the norms.
        rope: float32 [positions, D]
        pages: KV.
        layer: index in `pages`.
        slots: int64 [B]
        first: position of each row's first query  # int64 [B]
        scale: of the scores.
        launch: instead of what rows_launch gives.

    Returns:
        [B * n, heads, D]
    """
    keys, values = pages.keys[layer], pages.values[layer]
    kv_heads, head_dim = keys.shape[1], keys.shape[3]
    rows, heads = len(slots), qkv.shape[1] // head_dim - 2 * kv_heads
    n, groups = len(qkv) // rows, heads // kv_heads
    assert n <= NEW
    assert qkv.is_contiguous()
    assert rope.is_contiguous()
    block_m, block_d = max(16, triton.next_power_of_2(n * groups)), max(16, triton.next_power_of_2(head_dim))
    if launch is None:
        launch = rows_launch(rows * kv_heads, pages.table.shape[1], block_m, block_d, qkv)
    out = torch.empty((len(qkv), heads, head_dim), dtype=qkv.dtype, device=qkv.device)
    parts = sums = arrivals = out
    if launch.splits > 1:
        assert rows * kv_heads <= ARRIVALS
        arrivals = arrivals_of(qkv.device)
        parts = torch.empty((rows, kv_heads, launch.splits, block_m, block_d), dtype=torch.float32, device=qkv.device)
        sums = torch.empty((rows, kv_heads, launch.splits, block_m), dtype=torch.float32, device=qkv.device)
    normed = q_norm is not None and k_norm is not None
    _kernel[kv_heads, launch.splits, rows](
        qkv, q_norm if normed else qkv, k_norm if normed else qkv, rope, keys, values, pages.table, slots, first, out,
        parts, sums, arrivals, n, eps, scale * LOG2_E, rope.shape[0], pages.table.stride(0), qkv.stride(0),
        *keys.stride()[:3],
        GROUPS=groups, HEAD_DIM=head_dim, BLOCK_M=block_m, BLOCK_D=block_d, PAGE=PAGE, NEW=NEW,
        NORMED=normed, SHARED=launch.splits > 1, num_warps=launch.warps, num_stages=launch.stages, **overlap(qkv.device),
    )  # fmt: skip
    return out


@triton.jit
def _rotated(
    start, norm, rope, position, mask, eps, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, NORMED: tl.constexpr
):
    """Heads, normed and rotated.  # start: pointers [R, 1] to their first values; position [R] -> [R, BLOCK_D]"""
    half: tl.constexpr = HEAD_DIM // 2
    column = tl.arange(0, BLOCK_D)
    partner = tl.where(column < half, column + half, column - half)  # with which it is rotated
    x = tl.load(start + column[None, :], mask=mask, other=0.0)
    other = tl.load(start + partner[None, :], mask=mask, other=0.0)
    dtype = x.dtype
    x, other = x.to(tl.float32), other.to(tl.float32)
    if NORMED:
        rstd = tl.rsqrt(tl.sum(x * x, 1) / HEAD_DIM + eps)[:, None]
        inside = column < HEAD_DIM
        own = tl.load(norm + column, mask=inside, other=0.0).to(tl.float32)[None, :]
        theirs = tl.load(norm + partner, mask=inside, other=0.0).to(tl.float32)[None, :]
        x = ((x * rstd).to(dtype).to(tl.float32) * own).to(dtype).to(tl.float32)
        other = ((other * rstd).to(dtype).to(tl.float32) * theirs).to(dtype).to(tl.float32)
    line = rope + position[:, None] * HEAD_DIM + (column % half)[None, :]
    cos = tl.load(line, mask=mask, other=0.0)
    sin = tl.load(line + half, mask=mask, other=0.0)
    return (x * cos + tl.where(column < half, -other, other) * sin).to(dtype)


@triton.jit(do_not_specialize=["n", "table_stride", "rope_rows"])
def _kernel(
    qkv, q_norm, k_norm, rope, keys, values, table, slots, first, out, parts, sums, arrivals,
    n, eps, factor, rope_rows, table_stride, token_stride, page_stride, head_stride, position_stride,
    GROUPS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr, PAGE: tl.constexpr,
    NEW: tl.constexpr, NORMED: tl.constexpr, SHARED: tl.constexpr, overlapped: tl.constexpr,
):  # fmt: skip
    """A share of a row's pages, for the n x GROUPS queries of a kv head: tile row r is query r // GROUPS of head r % GROUPS."""
    head, split, row = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    kv_heads, splits = tl.num_programs(0), tl.num_programs(1)
    slot = tl.load(slots + row).to(tl.int64)
    start = tl.load(first + row).to(tl.int32)
    extent = tl.maximum(start, 0)  # what is in the pages already
    low, high, active = 0, tl.cdiv(extent, PAGE), 1
    if SHARED:
        low, high, active = share_out(high, n * GROUPS, split, splits, LEAST, PAGE)
        if split >= active:
            return
    line = table + slot * table_stride
    page = tl.load(line + low, mask=low < high, other=0)
    if overlapped:
        tl.extra.cuda.gdc_wait()
    member, column = tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_D)
    query = member // GROUPS
    head_of = head * GROUPS + member % GROUPS
    real = (member < n * GROUPS)[:, None] & (column < HEAD_DIM)[None, :]
    tokens = qkv + row.to(tl.int64) * n * token_stride
    position = tl.minimum(tl.maximum(start + query, 0), rope_rows - 1)
    heads = tokens + (query * token_stride + head_of * HEAD_DIM)[:, None]
    queries = _rotated(heads, q_norm, rope, position, real, eps, HEAD_DIM, BLOCK_D, NORMED)
    total, peak, acc, page = over_pages(
        tl.zeros([BLOCK_M], tl.float32), tl.full([BLOCK_M], MASKED, tl.float32), tl.zeros([BLOCK_M, BLOCK_D], tl.float32),
        page, queries, extent - 1 + query * 0, keys + head * head_stride, values + head * head_stride,
        line, low, high, high, extent, factor, page_stride, position_stride,
        True, HEAD_DIM, BLOCK_D, PAGE,
    )  # fmt: skip
    if split == active - 1:
        new = tl.arange(0, NEW)
        at = start + new
        there = (new < n) & (at >= 0)
        inside = there[:, None] & (column < HEAD_DIM)[None, :]
        count = kv_heads * GROUPS
        own = tokens + (new * token_stride + (count + head) * HEAD_DIM)[:, None]
        k = _rotated(
            own, k_norm, rope, tl.minimum(tl.maximum(at, 0), rope_rows - 1), inside, eps, HEAD_DIM, BLOCK_D, NORMED
        )
        v = tl.load(own + kv_heads * HEAD_DIM + column[None, :], mask=inside, other=0.0)
        into = tl.load(line + at // PAGE, mask=there, other=0).to(tl.int64) * page_stride + head * head_stride
        into = (into + (at % PAGE) * position_stride)[:, None] + column[None, :]
        tl.store(keys + into, k, mask=inside)
        tl.store(values + into, v, mask=inside)
        scores = tl.dot(queries, tl.trans(k), input_precision="ieee") * factor
        seen = there[None, :] & (at[None, :] <= tl.maximum(start + query, 0)[:, None])
        scores = tl.where(seen, scores, MASKED)
        higher = tl.maximum(peak, tl.max(scores, 1))
        fade = tl.exp2(peak - higher)
        weights = tl.where(seen, tl.exp2(scores - higher[:, None]), 0.0)
        total = total * fade + tl.sum(weights, 1)
        acc = tl.dot(weights.to(v.dtype), v, acc * fade[:, None], input_precision="ieee")
        peak = higher
    if overlapped:
        tl.extra.cuda.gdc_launch_dependents()
    to = out + ((row.to(tl.int64) * n + query[:, None]) * (kv_heads * GROUPS) + head_of[:, None]) * HEAD_DIM
    finish(
        total, peak, acc, to + column[None, :], real, parts, sums, arrivals, row * kv_heads + head, split, splits, active, SHARED
    )  # fmt: skip
