"""Attention over paged KV of rows' next few tokens.

Few tokens cannot fill a tensor core's tile with one head, so the queries that share a kv head share a tile; and few rows cannot fill
a GPU, so a row's pages are shared out (FlashDecoding, Dao et al. 2023) and the program that comes last puts the parts together: a
second kernel would cost more than it does.
"""

# ruff: noqa: N803 - what a Triton kernel takes has no Python types, and its constants are capitals
# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"

from __future__ import annotations

from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from specbatch.engine.graphs.describe.description import PLAIN, AttentionKind
from specbatch.engine.graphs.kernels.fitting import with_stages
from specbatch.engine.graphs.kernels.over_pages import (
    MASKED,
    Launch,
    check,
    constants_of,
    factor_of,
    over_pages,
    stages_for,
)
from specbatch.engine.graphs.kernels.overlap import overlap
from specbatch.engine.graphs.kernels.scratch import current_lane
from specbatch.engine.graphs.kv.paging import PAGE, Pages

LEAST = tl.constexpr(4)  # pages of a share: they arrive one behind the other, sooner than parts can be put together
ARRIVALS = 4096  # rows x kv heads that may be shared out at a time: many more than are worth sharing out


def attend_rows(
    q: Tensor, pages: Pages, layer: int, slots: Tensor, first: Tensor, scale: float, kind: AttentionKind = PLAIN,
    launch: Launch | None = None,
) -> Tensor:  # fmt: skip
    """TorchOps.attend_rows; calls of one device must follow each other, and the first must not be captured.

    Args:
        q: [B, n, heads, D]
        pages: KV.
        layer: index in `pages`.
        slots: int64 [B]
        first: position of each row's first query  # int64 [B]
        scale: of the scores.
        kind: of attention.
        launch: instead of what rows_launch gives.

    Returns:
        [B, n, heads, D]
    """
    keys, values = pages.keys[layer], pages.values[layer]
    rows, n, heads, head_dim = q.shape
    kv_heads = keys.shape[1]
    groups = heads // kv_heads
    block_m, block_d = max(16, triton.next_power_of_2(n * groups)), max(16, triton.next_power_of_2(head_dim))
    if launch is None:
        launch = rows_launch(rows * kv_heads, pages.table.shape[1], block_m, block_d, q, keys)
    check(q, pages, layer)
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    parts = parts_of(rows * kv_heads, launch.splits, block_m, block_d, out)

    def run(stages: int) -> None:
        # kv heads come first: those of a page lie side by side in memory.
        _rows_kernel[kv_heads, launch.splits, rows](
            q, keys, values, *pages.scales(layer), pages.table, slots, first, out, *parts,
            n, factor_of(scale, kind), pages.table.stride(0), *q.stride()[:3], *keys.stride()[:3],
            GROUPS=groups, HEAD_DIM=head_dim, BLOCK_M=block_m, BLOCK_D=block_d, PAGE=PAGE, SHARED=launch.splits > 1,
            PARTS=4 if stages == launch.stages else stages, **constants_of(kind, q.device),
            num_warps=launch.warps, num_stages=stages, **overlap(q.device),
        )  # fmt: skip

    with_stages(("attend_rows", block_m, block_d, launch, q.dtype, keys.dtype, q.device), launch.stages, run)
    return out


def rows_launch(pairs: int, width: int, block_m: int, block_d: int, q: Tensor, keys: Tensor) -> Launch:
    """Launch of attend_rows: two programs a multiprocessor share the work out evenly enough, and keep the memory busy.

    Args:
        pairs: rows x kv heads.
        width: pages of the longest row.
        block_m: rows of a tile.
        block_d: columns of a tile.
        q: for its device and dtype.
        keys: for their dtype.
    """
    splits = max(1, min(2 * multiprocessors(q.device) // pairs, width))
    # float32 does not use the tensor cores: more warps keep its products in registers.
    warps = 8 if block_m > 64 or (q.dtype == torch.float32 and block_m > 16) else 4
    return Launch(warps, stages_for(block_d, keys), splits)


def parts_of(pairs: int, splits: int, block_m: int, block_d: int, out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Room for the parts of shared-out rows, for their sums, and the counters of who has come; anything where nothing is shared out."""
    if splits == 1:
        return out, out, out
    assert pairs <= ARRIVALS
    parts = torch.empty((pairs, splits, block_m, block_d), dtype=torch.float32, device=out.device)
    return parts, parts.new_empty(pairs, splits, block_m), arrivals_of(out.device)


@cache
def multiprocessors(device: torch.device) -> int:
    """How many the device has; an H100's where the CPU plays a GPU."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 132


def arrivals_of(device: torch.device) -> Tensor:
    """Parts of each shared-out row that are done: 0 between kernels, as the last one sets it back."""
    return _arrivals(device, current_lane())


@cache
def _arrivals(device: torch.device, lane: int) -> Tensor:
    del lane
    assert device.type != "cuda" or not torch.cuda.is_current_stream_capturing(), "call attend_rows once before capture"
    return torch.zeros(ARRIVALS, dtype=torch.int32, device=device)


@triton.jit
def share_out(pages, queries, split, splits, LEAST: tl.constexpr, PAGE: tl.constexpr):
    """The pages [low, high) that a program takes of a row's, and how many programs have some."""
    # A share of s pages costs s x 2 PAGE x D numbers of 16 bits, then pages / s partial results of queries x D of 32
    # bits, which one program reads: as much for both at sqrt(pages queries / 64).
    even = tl.sqrt(pages * queries / PAGE).to(tl.int32)
    share = tl.maximum(tl.maximum(tl.cdiv(pages, splits), even), LEAST)
    active = tl.maximum(tl.cdiv(pages, share), 1)
    return split * share, tl.minimum((split + 1) * share, pages), active


@triton.jit
def finish(
    total, peak, acc, to, real, parts, sums, arrivals, pair, split, splits, active,
    SHARED: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """Writes what a program has found; where several share a row, the last of them to come puts their parts together.

    PARTS: that are on their way at a time
    """
    block_m: tl.constexpr = acc.shape[0]
    block_d: tl.constexpr = acc.shape[1]
    member, column = tl.arange(0, block_m), tl.arange(0, block_d)
    result = acc / tl.where(total > 0, total, 1.0)[:, None]  # 0 in a row without a position
    if not SHARED or active == 1:
        tl.store(to, result.to(to.dtype.element_ty), mask=real)
    else:
        part = pair.to(tl.int64) * splits
        spread = member[:, None] * block_d + column[None, :]
        tl.store(parts + (part + split) * block_m * block_d + spread, result, mask=real)
        tl.store(sums + (part + split) * block_m + member, peak + tl.log2(total))
        tl.debug_barrier()  # all threads have stored before one of them counts the program
        before = tl.atomic_add(arrivals + pair, 1, sem="acq_rel", scope="gpu")
        if before == active - 1:
            tl.store(arrivals + pair, 0)
            # In the parts' order, not in the order of arrival: the same result every time.
            peak = tl.full([block_m], MASKED, tl.float32)
            total = tl.zeros([block_m], tl.float32)
            acc = tl.zeros([block_m, block_d], tl.float32)
            for i in tl.range(0, active, num_stages=PARTS):
                theirs = tl.load(sums + (part + i) * block_m + member, cache_modifier=".cg")
                share_of = parts + (part + i) * block_m * block_d
                their = tl.load(share_of + spread, mask=real, other=0.0, cache_modifier=".cg")
                higher = tl.maximum(peak, theirs)
                fade, weight = tl.exp2(peak - higher), tl.exp2(theirs - higher)
                total = total * fade + weight
                acc = acc * fade[:, None] + their * weight[:, None]
                peak = higher
            tl.store(to, (acc / total[:, None]).to(to.dtype.element_ty), mask=real)


@triton.jit(do_not_specialize=["n", "table_stride"])
def _rows_kernel(
    q, keys, values, key_scales, value_scales, table, slots, first, out, parts, sums, arrivals,
    n, factor, table_stride, q_row, q_token, q_head, page_stride, head_stride, position_stride,
    GROUPS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr, PAGE: tl.constexpr,
    WINDOW: tl.constexpr, CAP: tl.constexpr, NATIVE: tl.constexpr, SHARED: tl.constexpr, PARTS: tl.constexpr,
    overlapped: tl.constexpr,
):  # fmt: skip
    """A share of a row's pages, for the n x GROUPS queries of a kv head: tile row r is query r // GROUPS of head r % GROUPS."""
    head, split, row = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    kv_heads, splits = tl.num_programs(0), tl.num_programs(1)
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
    # Until here all was there before the kernel before the last, which has ended: see overlap.py. Now come queries and new KV.
    if overlapped:
        tl.extra.cuda.gdc_wait()
    member, column = tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_D)
    query = member // GROUPS
    head_of = head * GROUPS + member % GROUPS
    real = (member < n * GROUPS)[:, None] & (column < HEAD_DIM)[None, :]
    queries = tl.load(
        q + row.to(tl.int64) * q_row + query[:, None] * q_token + head_of[:, None] * q_head + column[None, :],
        mask=real,
        other=0.0,
    )
    total, peak, acc, page = over_pages(
        tl.zeros([BLOCK_M], tl.float32), tl.full([BLOCK_M], MASKED, tl.float32), tl.zeros([BLOCK_M, BLOCK_D], tl.float32),
        page, queries, tl.maximum(start + query, 0), keys + head * head_stride, values + head * head_stride,
        key_scales, value_scales, head, line, low, high, high, extent, factor, page_stride, position_stride,
        True, HEAD_DIM, BLOCK_D, PAGE, WINDOW, CAP, NATIVE,
    )  # fmt: skip
    if overlapped:
        tl.extra.cuda.gdc_launch_dependents()
    heads = kv_heads * GROUPS
    to = out + ((row.to(tl.int64) * n + query[:, None]) * heads + head_of[:, None]) * HEAD_DIM + column[None, :]
    pair = row * kv_heads + head
    finish(total, peak, acc, to, real, parts, sums, arrivals, pair, split, splits, active, SHARED, PARTS)
