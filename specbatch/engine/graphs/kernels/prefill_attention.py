"""Attention over paged KV of packed stretches of prompts."""

# ruff: noqa: N803 - what a Triton kernel takes has no Python types, and its constants are capitals
# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"

from __future__ import annotations

from dataclasses import replace

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.runtime.errors import OutOfResources

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
from specbatch.engine.graphs.kv.paging import PAGE, TILE, Pages, Tiles


def attend_packed(
    q: Tensor, pages: Pages, layer: int, tiles: Tiles, scale: float, kind: AttentionKind = PLAIN,
    launch: Launch | None = None,
) -> Tensor:  # fmt: skip
    """TorchOps.attend_packed.

    Args:
        q: [T, heads, D]
        pages: KV.
        layer: index in `pages`.
        tiles: which tokens are whose.
        scale: of the scores.
        kind: of attention.
        launch: instead of what packed_launch gives.

    Returns:
        [T, heads, D]; 0 for tokens in no tile
    """
    keys, values = pages.keys[layer], pages.values[layer]
    heads, head_dim = q.shape[1:]
    groups = heads // keys.shape[1]
    block_d = max(16, triton.next_power_of_2(head_dim))
    block_t = 16 if q.dtype == torch.float32 else TILE  # float32 does not use the tensor cores: few, for its registers
    launch = launch or packed_launch(groups, block_d, q, keys)
    check(q, pages, layer)
    out = torch.zeros(q.shape, dtype=q.dtype, device=q.device)

    def run(stages: int) -> None:
        # Heads come first: those that read the same keys run at the same time.
        _packed_kernel[heads // launch.together, tiles.rows.shape[0], TILE // block_t](
            q, keys, values, *pages.scales(layer), pages.table, tiles.rows, out,
            factor_of(scale, kind), pages.table.stride(0), q.stride(0), q.stride(1), heads * head_dim, *keys.stride()[:3],
            GROUPS=groups, HEAD_DIM=head_dim, BLOCK_T=block_t, TOGETHER=launch.together, BLOCK_D=block_d, PAGE=PAGE,
            **constants_of(kind, q.device), num_warps=launch.warps, num_stages=stages, **overlap(q.device),
        )  # fmt: skip

    try:
        with_stages(("attend_packed", block_t, block_d, launch, q.dtype, keys.dtype, q.device), launch.stages, run)
    except OutOfResources:
        if launch.together == 1:
            raise
        return attend_packed(q, pages, layer, tiles, scale, kind, replace(launch, warps=4, together=1))
    return out


def packed_launch(groups: int, block_d: int, q: Tensor, keys: Tensor) -> Launch:
    """Launch of attend_packed: 128 queries a program where two heads share their keys."""
    together = 2 if groups % 2 == 0 and block_d <= 128 and q.dtype != torch.float32 else 1
    return Launch(8 if together == 2 or block_d > 128 else 4, stages_for(block_d, keys), together=together)


@triton.jit(do_not_specialize=["table_stride"])
def _packed_kernel(
    q, keys, values, key_scales, value_scales, table, tiles, out,
    factor, table_stride, q_token, q_head, out_token, page_stride, head_stride, position_stride,
    GROUPS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_T: tl.constexpr, TOGETHER: tl.constexpr, BLOCK_D: tl.constexpr,
    PAGE: tl.constexpr, WINDOW: tl.constexpr, CAP: tl.constexpr, NATIVE: tl.constexpr, overlapped: tl.constexpr,
):  # fmt: skip
    """BLOCK_T tokens of a tile, for TOGETHER heads of one kv head: tile row r is token r % BLOCK_T of head r // BLOCK_T."""
    if overlapped:
        tl.extra.cuda.gdc_wait()
    # The last tiles come first: in a long row they see the most keys.
    tile = tiles + (tl.num_programs(1) - 1 - tl.program_id(1)) * 4
    skipped = tl.program_id(2) * BLOCK_T
    count = tl.load(tile + 3) - skipped
    if count <= 0:
        return
    slot = tl.load(tile).to(tl.int64)
    token = (tl.load(tile + 1) + skipped).to(tl.int64)
    start = tl.load(tile + 2) + skipped
    extent = start + tl.minimum(count, BLOCK_T)
    line = table + slot * table_stride
    low = 0
    if WINDOW:
        low = tl.maximum(start + 1 - WINDOW, 0) // PAGE
    page = tl.load(line + low)
    seen, held = (
        (start + 1) // PAGE,
        tl.cdiv(extent, PAGE),
    )  # of the first of them, every query sees every position, or its window

    member, column = tl.arange(0, BLOCK_T * TOGETHER), tl.arange(0, BLOCK_D)
    query = member % BLOCK_T
    head_of = tl.program_id(0) * TOGETHER + member // BLOCK_T
    head = tl.program_id(0) * TOGETHER // GROUPS
    real = (query < count)[:, None] & (column < HEAD_DIM)[None, :]
    queries = tl.load(
        q + (token + query)[:, None] * q_token + head_of[:, None] * q_head + column[None, :], mask=real, other=0.0
    )
    position = start + query
    total, peak, acc, page = over_pages(
        tl.zeros([BLOCK_T * TOGETHER], tl.float32), tl.full([BLOCK_T * TOGETHER], MASKED, tl.float32),
        tl.zeros([BLOCK_T * TOGETHER, BLOCK_D], tl.float32),
        page, queries, position, keys + head * head_stride, values + head * head_stride, key_scales, value_scales, head,
        line, low, seen, held, extent, factor, page_stride, position_stride, False, HEAD_DIM, BLOCK_D, PAGE, WINDOW, CAP, NATIVE,
    )  # fmt: skip
    total, peak, acc, page = over_pages(
        total, peak, acc,
        page, queries, position, keys + head * head_stride, values + head * head_stride, key_scales, value_scales, head,
        line, seen, held, held, extent, factor, page_stride, position_stride, True, HEAD_DIM, BLOCK_D, PAGE, WINDOW, CAP, NATIVE,
    )  # fmt: skip
    to = out + (token + query)[:, None] * out_token + head_of[:, None] * HEAD_DIM + column[None, :]
    tl.store(to, (acc / total[:, None]).to(out.dtype.element_ty), mask=real)
