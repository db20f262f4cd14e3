"""Cascade attention over paged KV (Hydragen, Juravsky et al., arXiv 2402.05099; flashinfer's cascade), in two kernels.

The first takes the queries of up to ROWS rows, of one kv head, over the pages that these share: read once, and by full tiles of a
tensor core. The second goes on from what it has found over each row's own pages: to merge costs no kernel more.
"""

# ruff: noqa: N803 - what a Triton kernel takes has no Python types, and its constants are capitals
# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from specbatch.engine.graphs.cascade.tiles import ROWS, PrefixTiles
from specbatch.engine.graphs.describe.description import AttentionKind
from specbatch.engine.graphs.kernels.attention import multiprocessors
from specbatch.engine.graphs.kernels.fitting import with_stages
from specbatch.engine.graphs.kernels.over_pages import MASKED, check, constants_of, factor_of, over_pages, stages_for
from specbatch.engine.graphs.kv.paging import PAGE, Pages

_QUERIES = 64  # of a program of the first kernel
_MOST_SPLITS = 8


def attend_cascade(
    q: Tensor, pages: Pages, layer: int, slots: Tensor, first: Tensor, prefixes: PrefixTiles, scale: float, kind: AttentionKind,
    splits: int | None = None,
) -> Tensor:  # fmt: skip
    """See reference.attend_cascade.

    Args:
        q: [B, n, heads, D]
        pages: KV.
        layer: index in `pages`.
        slots: int64 [B]
        first: position of each row's first query  # int64 [B]
        prefixes: of the rows.
        scale: of the scores.
        kind: of attention, without a window.
        splits: programs that share a prefix; by default as many as fill the GPU.

    Returns:
        [B, n, heads, D]
    """
    keys, values = pages.keys[layer], pages.values[layer]
    check(q, pages, layer)
    rows, n, heads, head_dim = q.shape
    kv_heads = keys.shape[1]
    groups = heads // kv_heads
    block_d, subs = max(16, triton.next_power_of_2(head_dim)), triton.cdiv(ROWS * n * groups, _QUERIES)
    block_m = max(16, triton.next_power_of_2(n * groups))
    if splits is None:
        programs = kv_heads * triton.cdiv(rows, ROWS) * subs
        splits = max(1, min(2 * multiprocessors(q.device) // programs, _MOST_SPLITS))
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    parts = torch.empty((splits, *q.shape), dtype=torch.float32, device=q.device)
    sums = torch.empty((splits, *q.shape[:3]), dtype=torch.float32, device=q.device)
    tiles, shared = prefixes.tiles, prefixes.shared
    stored = keys, values, *pages.scales(layer), pages.table
    numbers = factor_of(scale, kind), pages.table.stride(0), *q.stride()[:3], *keys.stride()[:3]
    assert not kind.window
    constants = {
        "GROUPS": groups,
        "HEAD_DIM": head_dim,
        "BLOCK_D": block_d,
        "PAGE": PAGE,
        **constants_of(kind, q.device),
    }

    def prefix(stages: int) -> None:
        _prefix_kernel[kv_heads, len(tiles) * subs, splits](
            q, *stored, tiles, parts, sums, rows, n, subs, *numbers,
            ROWS=ROWS, BLOCK_M=_QUERIES, **constants, num_warps=4, num_stages=stages,
        )  # fmt: skip

    def own(stages: int) -> None:
        _own_kernel[kv_heads, rows](
            q, *stored, slots, first, shared, parts, sums, out, n, splits, *numbers,
            BLOCK_M=block_m, **constants, num_warps=8 if block_m > 64 else 4, num_stages=stages,
        )  # fmt: skip

    # Of its own a row has few pages: what counts is how many programs fit beside each other.
    stages, what = stages_for(block_d, keys), (block_d, q.dtype, keys.dtype, q.device)
    with_stages(("cascade prefix", *what), stages, prefix)
    with_stages(("cascade own", block_m, *what), min(stages, 2), own)
    return out


@triton.jit(do_not_specialize=["rows", "n", "subs", "table_stride"])
def _prefix_kernel(
    q, keys, values, key_scales, value_scales, table, tiles, parts, sums,
    rows, n, subs, factor, table_stride, q_row, q_token, q_head, page_stride, head_stride, position_stride,
    ROWS: tl.constexpr, GROUPS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr,
    PAGE: tl.constexpr, WINDOW: tl.constexpr, CAP: tl.constexpr, NATIVE: tl.constexpr,
):  # fmt: skip
    """BLOCK_M of a tile's queries of a kv head, row after row, over a share of the pages that its rows have in common."""
    head, split = tl.program_id(0), tl.program_id(2)
    kv_heads, splits = tl.num_programs(0), tl.num_programs(2)
    tile, sub = tl.program_id(1) // subs, tl.program_id(1) % subs
    about = tiles + tile * (2 + ROWS)
    slot, count = tl.load(about).to(tl.int64), tl.load(about + 1)
    share = tl.cdiv(count, splits)
    low, high = split * share, tl.minimum((split + 1) * share, count)
    if low >= high:
        return
    line = table + slot * table_stride
    member, column = sub * BLOCK_M + tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_D)
    among, within = member // (n * GROUPS), member % (n * GROUPS)
    place = tl.load(about + 2 + among, mask=among < ROWS, other=-1).to(tl.int64)
    query, head_of = within // GROUPS, head * GROUPS + within % GROUPS
    real = (place >= 0)[:, None] & (column < HEAD_DIM)[None, :]
    queries = tl.load(
        q + place[:, None] * q_row + query[:, None] * q_token + head_of[:, None] * q_head + column[None, :],
        mask=real,
        other=0.0,
    )
    total, peak, acc, _ = over_pages(
        tl.zeros([BLOCK_M], tl.float32), tl.full([BLOCK_M], MASKED, tl.float32), tl.zeros([BLOCK_M, BLOCK_D], tl.float32),
        tl.load(line + low), queries, query, keys + head * head_stride, values + head * head_stride,
        key_scales, value_scales, head, line, low, high, high, high * PAGE, factor, page_stride, position_stride,
        False, HEAD_DIM, BLOCK_D, PAGE, WINDOW, CAP, NATIVE,
    )  # fmt: skip
    at = ((split * rows + place) * n + query) * (kv_heads * GROUPS) + head_of
    tl.store(parts + at[:, None] * HEAD_DIM + column[None, :], acc / total[:, None], mask=real)
    tl.store(sums + at, peak + tl.log2(total), mask=place >= 0)


@triton.jit(do_not_specialize=["n", "splits", "table_stride"])
def _own_kernel(
    q, keys, values, key_scales, value_scales, table, slots, first, shared, parts, sums, out,
    n, splits, factor, table_stride, q_row, q_token, q_head, page_stride, head_stride, position_stride,
    GROUPS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr,
    PAGE: tl.constexpr, WINDOW: tl.constexpr, CAP: tl.constexpr, NATIVE: tl.constexpr,
):  # fmt: skip
    """The n x GROUPS queries of a row and a kv head over its own pages, going on from what was found over the shared ones."""
    head, row = tl.program_id(0), tl.program_id(1).to(tl.int64)
    heads, rows = tl.num_programs(0) * GROUPS, tl.num_programs(1)
    slot, start = tl.load(slots + row).to(tl.int64), tl.load(first + row).to(tl.int32)
    extent = tl.maximum(start + n, 0)
    low, high = tl.load(shared + row), tl.cdiv(extent, PAGE)
    member, column = tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_D)
    query, head_of = member // GROUPS, head * GROUPS + member % GROUPS
    there = member < n * GROUPS
    real = there[:, None] & (column < HEAD_DIM)[None, :]
    queries = tl.load(
        q + row * q_row + query[:, None] * q_token + head_of[:, None] * q_head + column[None, :], mask=real, other=0.0
    )
    peak = tl.full([BLOCK_M], MASKED, tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    for i in tl.range(0, tl.cdiv(low, tl.maximum(tl.cdiv(low, splits), 1))):
        at = ((i * rows + row) * n + query) * heads + head_of
        theirs = tl.load(sums + at, mask=there, other=0.0)
        their = tl.load(parts + at[:, None] * HEAD_DIM + column[None, :], mask=real, other=0.0)
        higher = tl.maximum(peak, theirs)
        fade, weight = tl.exp2(peak - higher), tl.exp2(theirs - higher)
        total = total * fade + weight
        acc = acc * fade[:, None] + their * weight[:, None]
        peak = higher
    line = table + slot * table_stride
    total, peak, acc, _ = over_pages(
        total, peak, acc, tl.load(line + low, mask=low < high, other=0), queries, tl.maximum(start + query, 0),
        keys + head * head_stride, values + head * head_stride, key_scales, value_scales, head,
        line, low, high, high, extent, factor, page_stride, position_stride, True, HEAD_DIM, BLOCK_D, PAGE, WINDOW, CAP, NATIVE,
    )  # fmt: skip
    to = out + ((row * n + query[:, None]) * heads + head_of[:, None]) * HEAD_DIM + column[None, :]
    tl.store(to, (acc / tl.where(total > 0, total, 1.0)[:, None]).to(to.dtype.element_ty), mask=real)
