"""Rotation, write and attention of rows' next few tokens in one kernel, straight from their queries, keys and values.

A program rotates the queries of its kv head, and the keys of those new positions that lie in its pages: it writes them there, and reads
them again with all others. Pages are shared out and parts put together as in attention.py.
"""

# ruff: noqa: N803 - what a Triton kernel takes has no Python types, and its constants are capitals
# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from specbatch.engine.graphs.describe.description import PLAIN, AttentionKind
from specbatch.engine.graphs.kernels.attention import LEAST, finish, parts_of, rows_launch, share_out
from specbatch.engine.graphs.kernels.fitting import with_stages
from specbatch.engine.graphs.kernels.fp8_pages import rounded, scale_of, size_bits
from specbatch.engine.graphs.kernels.over_pages import MASKED, Launch, constants_of, factor_of, over_pages
from specbatch.engine.graphs.kernels.overlap import overlap
from specbatch.engine.graphs.kv.paging import PAGE, Pages

TILE = 32  # queries of a kv head that a program rotates: more do not fit its registers


def tile_of(tokens: int, heads: int, kv_heads: int) -> int:
    """Rows of the tile of a row's `tokens` new queries that share a kv head."""
    return max(16, int(triton.next_power_of_2(tokens * (heads // kv_heads))))


def rope_attend(
    qkv: Tensor, q_norm: Tensor | None, k_norm: Tensor | None, eps: float, rope: Tensor, pages: Pages, layer: int,
    slots: Tensor, first: Tensor, scale: float, kind: AttentionKind = PLAIN, launch: Launch | None = None,
) -> Tensor:  # fmt: skip
    """TorchOps.rope_attend for tiles of at most TILE queries; as to capture, see attend_rows.

    Args:
        qkv: [B * n, (heads + 2 kv_heads) * D]
        q_norm: of each head, over head_dim  # [D]
        k_norm: the same.
        eps: of the norms.
        rope: cos in the first half of the columns, sin in the second  # float32 [positions, D]
        pages: KV.
        layer: index in `pages`.
        slots: int64 [B]
        first: position of each row's first token, may be -1  # int64 [B]
        scale: of the scores.
        kind: of attention.
        launch: instead of what rows_launch gives.

    Returns:
        [B * n, heads, D]
    """
    keys, values = pages.keys[layer], pages.values[layer]
    kv_heads, head_dim, rows = keys.shape[1], keys.shape[3], len(slots)
    n, heads = qkv.shape[0] // rows, qkv.shape[1] // head_dim - 2 * kv_heads
    block_m, block_d = tile_of(n, heads, kv_heads), max(16, triton.next_power_of_2(head_dim))
    if launch is None:
        launch = rows_launch(rows * kv_heads, pages.table.shape[1], block_m, block_d, qkv, keys)
    assert qkv.is_contiguous()
    assert keys.stride() == values.stride()
    assert keys.stride(-1) == 1
    out = torch.empty((qkv.shape[0], heads, head_dim), dtype=qkv.dtype, device=qkv.device)
    parts = parts_of(rows * kv_heads, launch.splits, block_m, block_d, out)
    groups = heads // kv_heads

    def run(stages: int) -> None:
        _rope_attend_kernel[kv_heads, launch.splits, rows](
            qkv, q_norm, k_norm, rope, keys, values, *pages.scales(layer), pages.table, slots, first, out, *parts,
            n, eps, factor_of(scale, kind), rope.shape[0], pages.table.stride(0), *keys.stride()[:3],
            KV_HEADS=kv_heads, GROUPS=groups, HEAD_DIM=head_dim, BLOCK_M=block_m, BLOCK_D=block_d,
            NEW=triton.next_power_of_2(triton.cdiv(block_m, groups)), PAGE=PAGE, NORMED=q_norm is not None,
            ROTATED=kind.rotated, INTERLEAVED=kind.interleaved, **constants_of(kind, qkv.device),
            SHARED=launch.splits > 1, PARTS=4 if stages == launch.stages else stages,
            num_warps=launch.warps, num_stages=stages, **overlap(qkv.device),
        )  # fmt: skip

    with_stages(("rope_attend", block_m, block_d, launch, qkv.dtype, keys.dtype, qkv.device), launch.stages, run)
    return out


@triton.jit
def _rotated(x, partner, weight, partner_weight, cos, sin, eps, HEAD_DIM: tl.constexpr, NORMED: tl.constexpr):
    """Norm and rotation of whole heads, rounded where the reference rounds.

    x, partner: and what stands half a head away  # [M, D]
    sin: negative in the first half  # [M, D]
    """
    a, b = x.to(tl.float32), partner.to(tl.float32)
    if NORMED:
        rstd = tl.math.rsqrt(tl.sum(a * a, 1) / HEAD_DIM + eps)[:, None]
        a = ((a * rstd).to(x.dtype).to(tl.float32) * weight).to(x.dtype).to(tl.float32)
        b = ((b * rstd).to(x.dtype).to(tl.float32) * partner_weight).to(x.dtype).to(tl.float32)
    return (a * cos + b * sin).to(x.dtype)


@triton.jit(do_not_specialize=["n", "extent_of_rope", "table_stride"])
def _rope_attend_kernel(
    qkv, q_norm, k_norm, rope, keys, values, key_scales, value_scales, table, slots, first, out, parts, sums, arrivals,
    n, eps, factor, extent_of_rope, table_stride, page_stride, head_stride, position_stride,
    KV_HEADS: tl.constexpr, GROUPS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr,
    NEW: tl.constexpr, PAGE: tl.constexpr, NORMED: tl.constexpr, ROTATED: tl.constexpr, INTERLEAVED: tl.constexpr,
    WINDOW: tl.constexpr, CAP: tl.constexpr, NATIVE: tl.constexpr, SHARED: tl.constexpr, PARTS: tl.constexpr,
    overlapped: tl.constexpr,
):  # fmt: skip
    """A share of a row's pages, for the n x GROUPS queries of a kv head: tile row r is query r // GROUPS of head r % GROUPS.

    NEW: tokens that a tile has room for, whatever n: each number of tokens would be compiled anew
    """
    head, split, row = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    splits = tl.num_programs(1)
    slot = tl.load(slots + row).to(tl.int64)
    start = tl.load(first + row).to(tl.int32)
    extent = tl.maximum(start + n, 0)
    low, high = 0, tl.cdiv(extent, PAGE)
    active = 1
    if WINDOW:
        low = tl.maximum(start + 1 - WINDOW, 0) // PAGE
    if SHARED:
        behind = low
        low, high, active = share_out(high - behind, n * GROUPS, split, splits, LEAST, PAGE)
        if WINDOW:
            low += behind
            high += behind
        if split >= active:
            return

    line = table + slot * table_stride
    page = tl.load(line + low, mask=low < high, other=0)
    member, column = tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_D)
    half: tl.constexpr = HEAD_DIM // 2
    inside = column < HEAD_DIM
    other = tl.where(column < half, column + half, column - half)
    sign = tl.where(column < half, -1.0, 1.0)[None, :]
    part: tl.constexpr = ROTATED // 2
    if INTERLEAVED:
        other = column ^ 1
        sign = tl.where(column % 2 == 0, -1.0, 1.0)[None, :]
    elif ROTATED:
        other = tl.where(column < part, column + part, tl.where(column < ROTATED, column - part, column))
        sign = tl.where(column < part, -1.0, 1.0)[None, :]
    query = member // GROUPS
    head_of = head * GROUPS + member % GROUPS
    real = (member < n * GROUPS)[:, None] & inside[None, :]
    angle = tl.minimum(tl.maximum(start + query, 0), extent_of_rope - 1)[:, None] * HEAD_DIM
    turn = column % half  # column of its angle
    if INTERLEAVED:
        turn = column // 2
    elif ROTATED:
        turn = tl.where(column < ROTATED, column % part, part)  # behind those that are rotated stands what is not
    angle += turn[None, :]
    cos = tl.load(rope + angle, mask=real, other=0.0)
    sin = tl.load(rope + angle + half, mask=real, other=0.0) * sign
    new = tl.arange(0, NEW)
    at = start + new
    mine = (
        (new < n) & (at >= low * PAGE) & (at < high * PAGE)
    )  # never -1: nothing is written for a token that is not there
    written = mine[:, None] & inside[None, :]
    angle = tl.minimum(tl.maximum(at, 0), extent_of_rope - 1)[:, None] * HEAD_DIM + turn[None, :]
    k_cos = tl.load(rope + angle, mask=written, other=0.0)
    k_sin = tl.load(rope + angle + half, mask=written, other=0.0) * sign
    k_page = tl.load(line + tl.maximum(at, 0) // PAGE, mask=mine, other=0).to(tl.int64)
    q_weight, q_partner, k_weight, k_partner = 1.0, 1.0, 1.0, 1.0
    if NORMED:
        q_weight = tl.load(q_norm + column, mask=inside, other=0.0).to(tl.float32)[None, :]
        q_partner = tl.load(q_norm + other, mask=inside, other=0.0).to(tl.float32)[None, :]
        k_weight = tl.load(k_norm + column, mask=inside, other=0.0).to(tl.float32)[None, :]
        k_partner = tl.load(k_norm + other, mask=inside, other=0.0).to(tl.float32)[None, :]
    # Until here all was there before the kernel before the last, which has ended: see overlap.py. Now comes what the last one wrote.
    if overlapped:
        tl.extra.cuda.gdc_wait()

    token = row.to(tl.int64) * n
    width: tl.constexpr = (GROUPS + 2) * KV_HEADS * HEAD_DIM
    of_keys = qkv + (token + new)[:, None] * width + (KV_HEADS * GROUPS + head) * HEAD_DIM
    raw = tl.load(of_keys + column[None, :], mask=written, other=0.0)
    raw_partner = tl.load(of_keys + other[None, :], mask=written, other=0.0)
    v = tl.load(of_keys + KV_HEADS * HEAD_DIM + column[None, :], mask=written, other=0.0)
    of_queries = qkv + (token + query)[:, None] * width + head_of[:, None] * HEAD_DIM
    q = tl.load(of_queries + column[None, :], mask=real, other=0.0)
    q_other = tl.load(of_queries + other[None, :], mask=real, other=0.0)
    k = _rotated(raw, raw_partner, k_weight, k_partner, k_cos, k_sin, eps, HEAD_DIM, NORMED)
    within = k_page * page_stride + head * head_stride + (at % PAGE).to(tl.int64) * position_stride
    if key_scales is not None:
        scale_at = k_page * (page_stride // HEAD_DIM) + head * PAGE + at % PAGE
        k_scale, v_scale = scale_of(tl.max(size_bits(k), 1)), scale_of(tl.max(size_bits(v), 1))
        tl.store(key_scales + scale_at, k_scale, mask=mine)
        tl.store(value_scales + scale_at, v_scale, mask=mine)
        k, v = rounded(k, k_scale[:, None]), rounded(v, v_scale[:, None])
    tl.store(keys + within[:, None] + column[None, :], k, mask=written)
    tl.store(values + within[:, None] + column[None, :], v, mask=written)
    queries = _rotated(q, q_other, q_weight, q_partner, cos, sin, eps, HEAD_DIM, NORMED)
    tl.debug_barrier()  # all threads have written before one of them reads
    total, peak, acc, page = over_pages(
        tl.zeros([BLOCK_M], tl.float32), tl.full([BLOCK_M], MASKED, tl.float32), tl.zeros([BLOCK_M, BLOCK_D], tl.float32),
        page, queries, tl.maximum(start + query, 0), keys + head * head_stride, values + head * head_stride,
        key_scales, value_scales, head, line, low, high, high, extent, factor, page_stride, position_stride,
        True, HEAD_DIM, BLOCK_D, PAGE, WINDOW, CAP, NATIVE,
    )  # fmt: skip
    if overlapped:
        tl.extra.cuda.gdc_launch_dependents()
    heads: tl.constexpr = KV_HEADS * GROUPS
    to = out + ((token + query)[:, None] * heads + head_of[:, None]) * HEAD_DIM + column[None, :]
    pair = row * KV_HEADS + head
    finish(total, peak, acc, to, real, parts, sums, arrivals, pair, split, splits, active, SHARED, PARTS)
