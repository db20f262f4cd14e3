"""What attention over pages shares: the online softmax of FlashAttention (Dao, arXiv 2307.08691), page by page, in base 2 and float32."""

# ruff: noqa: N803 - what a Triton kernel takes has no Python types, and its constants are capitals
# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from specbatch.engine.graphs.describe.description import AttentionKind
from specbatch.engine.graphs.kernels.activations import tanh
from specbatch.engine.graphs.kernels.fp8_pages import even_and_odd
from specbatch.engine.graphs.kernels.linears.linear_integers import native
from specbatch.engine.graphs.kernels.linears.linear_widen import widen
from specbatch.engine.graphs.kv.paging import PAGE, Pages

MASKED = tl.constexpr(-1e30)  # finite, so that what sees nothing yet needs no special case: it weighs 2^-1e30 = 0
LOG2_E = math.log2(math.e)


@dataclass(frozen=True, slots=True)
class Launch:
    """How a kernel is compiled and shared out.

    splits: programs that share a row's pages at most, in attend_rows.
    together: heads of a program, in attend_packed.
    """

    warps: int
    stages: int
    splits: int = 1
    together: int = 1


def stages_for(block_d: int, keys: Tensor) -> int:
    """Pages on their way at a time, each 32 KB at head_dim 128 in 16 bits: so that three programs fit a multiprocessor's 227 KB."""
    page = 2 * PAGE * block_d * keys.element_size()
    return 3 if page <= 32 << 10 else 2 if page <= 64 << 10 else 1


def factor_of(scale: float, kind: AttentionKind) -> float:
    """What scores are multiplied with: for the base 2, or for the tanh that caps them."""
    return scale / kind.softcap if kind.softcap else scale * LOG2_E


def constants_of(kind: AttentionKind, device: torch.device) -> dict[str, float]:
    """Constants of a kernel over pages: none that changes its code where the attention is Llama's."""
    return {"WINDOW": kind.window, "CAP": kind.softcap * LOG2_E, "NATIVE": native(device)}


def check(q: Tensor, pages: Pages, layer: int) -> None:
    """What the kernels count on."""
    keys, values = pages.keys[layer], pages.values[layer]
    assert keys.stride() == values.stride()
    assert keys.is_contiguous() or not pages.key_scales
    assert q.stride(-1) == keys.stride(-1) == 1
    assert q.shape[-2] % keys.shape[1] == 0


@triton.jit
def over_pages(
    total, peak, acc, page, queries, position, keys, values, key_scales, value_scales, head, line, low, high, held, extent, factor,
    page_stride, position_stride,
    MASK: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, PAGE: tl.constexpr,
    WINDOW: tl.constexpr, CAP: tl.constexpr, NATIVE: tl.constexpr,
):  # fmt: skip
    """Takes the pages [low, high) of a row into the online softmax, beginning with `page`; gives the next one's number, too.

    key_scales, value_scales: None but for pages in FP8, which are contiguous; scales come in behind the products: each is one of a column
    WINDOW: positions that a query sees, or 0; CAP: of the scores in base 2, or 0
    MASK: some position may be hidden or not yet written. What lies beyond the row's last position is not read: it may be NaN, and 0 x NaN is NaN.
    """
    column = tl.arange(0, BLOCK_D)
    inside = tl.arange(0, PAGE)
    offset = inside[:, None] * position_stride + column[None, :]
    # Tensor cores want values turned round, which few queries have done on the way out of shared memory: by 16 bits, so two of FP8 at a time.
    paired: tl.constexpr = (
        key_scales is not None and BLOCK_D >= 32 and acc.shape[0] < 64 and queries.dtype != tl.float16
    )
    v_width: tl.constexpr = HEAD_DIM // 2 if paired else HEAD_DIM
    v_column, v_offset = column, offset
    if paired:
        v_column = tl.arange(0, BLOCK_D // 2)
        v_offset = inside[:, None] * v_width + v_column[None, :]
        values = values.to(tl.pointer_type(tl.int16))
        even, odd = tl.split(tl.reshape(acc, (acc.shape[0], BLOCK_D // 2, 2)))
    for j in tl.range(low, high):
        following = tl.load(line + j + 1, mask=j + 1 < held, other=0)  # on its way while this page is worked on
        base = page.to(tl.int64) * page_stride
        v_base = base // 2 if paired else base
        at = j * PAGE + inside
        if MASK:
            there = (at < extent)[:, None]
            k = tl.load(keys + base + offset, mask=there & (column < HEAD_DIM)[None, :], other=0.0)
            v = tl.load(values + v_base + v_offset, mask=there & (v_column < v_width)[None, :], other=0.0)
        elif HEAD_DIM != BLOCK_D:
            k = tl.load(keys + base + offset, mask=(column < HEAD_DIM)[None, :], other=0.0)
            v = tl.load(values + v_base + v_offset, mask=(v_column < v_width)[None, :], other=0.0)
        else:
            k = tl.load(keys + base + offset)
            v = tl.load(values + v_base + v_offset)
        if key_scales is not None:
            scale_at = page.to(tl.int64) * (page_stride // HEAD_DIM) + head * PAGE + inside
            k_scale = tl.load(key_scales + scale_at, mask=at < extent, other=0.0).to(tl.float32)
            v_scale = tl.load(value_scales + scale_at, mask=at < extent, other=0.0).to(tl.float32)
            k = widen(k, queries.dtype, NATIVE)
            if paired:
                v_even, v_odd = even_and_odd(v, queries.dtype, NATIVE)
            else:
                v = widen(v, queries.dtype, NATIVE)
            if queries.dtype == tl.float16:  # which has not the range for weights times scales
                v = (v.to(tl.float32) * v_scale[:, None]).to(tl.float16)
        scores = tl.dot(queries, tl.trans(k), input_precision="ieee") * factor
        if key_scales is not None:
            scores *= k_scale[None, :]
        if CAP > 0:
            scores = tanh(scores) * CAP
        if MASK:
            scores = tl.where(at[None, :] <= position[:, None], scores, MASKED)
        if WINDOW:
            scores = tl.where(at[None, :] > position[:, None] - WINDOW, scores, MASKED)
        higher = tl.maximum(peak, tl.max(scores, 1))
        fade = tl.exp2(peak - higher)
        weights = tl.exp2(scores - higher[:, None])
        total = total * fade + tl.sum(weights, 1)
        if key_scales is not None and queries.dtype != tl.float16:
            weights *= v_scale[None, :]
        if paired:
            even = tl.dot(weights.to(queries.dtype), v_even, even * fade[:, None], input_precision="ieee")
            odd = tl.dot(weights.to(queries.dtype), v_odd, odd * fade[:, None], input_precision="ieee")
        else:
            acc = tl.dot(weights.to(v.dtype), v, acc * fade[:, None], input_precision="ieee")
        peak = higher
        page = following
    if paired:
        acc = tl.reshape(tl.join(even, odd), (acc.shape[0], BLOCK_D))
    return total, peak, acc, page
