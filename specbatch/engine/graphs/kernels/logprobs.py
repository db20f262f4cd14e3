"""Log probabilities of chosen tokens and of the likeliest ones, without a copy of the logits."""

# ruff: noqa: N803 - what a Triton kernel takes has no Python types, and its constants are capitals
# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from specbatch.engine.graphs.kernels.top_candidates import top_candidates

_TILE = 4096  # tokens of the vocabulary


def logprobs(logits: Tensor, tokens: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Of the tokens, then of the `count` likeliest.

    Args:
        logits: [R, vocab]
        tokens: int64 [R]
        count: at most vocab.

    Returns:
        float32 [R, 1 + count]; the likeliest tokens, the likeliest first  # int64 [R, count]
    """
    rows, vocab = logits.shape
    best, ids = top_candidates(logits, count)
    values = torch.empty(rows, 1 + count, dtype=torch.float32, device=logits.device)
    tile = min(_TILE, triton.next_power_of_2(vocab))
    tiles = triton.cdiv(vocab, tile)
    sums = torch.empty(rows, tiles, dtype=torch.float32, device=logits.device)
    if rows:
        _sum_tiles[(rows, tiles)](logits, best, sums, logits.stride(0), vocab, tiles, count, TILE=tile, num_warps=4)
        _subtract[(rows,)](
            logits, tokens, best, sums, values, logits.stride(0), tiles, count,
            TILES=triton.next_power_of_2(tiles), COUNT=triton.next_power_of_2(count), num_warps=1,
        )  # fmt: skip
    return values, ids


@triton.jit
def _sum_tiles(logits, best, sums, stride, vocab, tiles, count, TILE: tl.constexpr):
    """Of one row's next TILE tokens: what their probabilities sum to, that of the likeliest being 1."""
    row, tile = tl.program_id(0), tl.program_id(1)
    tokens = tile * TILE + tl.arange(0, TILE)
    score = tl.load(logits + row.to(tl.int64) * stride + tokens, tokens < vocab, -float("inf")).to(tl.float32)
    tl.store(sums + row * tiles + tile, tl.sum(tl.exp(score - tl.load(best + row * count)), 0))


@triton.jit
def _subtract(logits, tokens, best, sums, values, stride, tiles, count, TILES: tl.constexpr, COUNT: tl.constexpr):
    row = tl.program_id(0)
    tile, place = tl.arange(0, TILES), tl.arange(0, COUNT)
    mass = tl.sum(tl.load(sums + row * tiles + tile, tile < tiles, 0.0), 0)
    total = tl.load(best + row * count) + tl.log(mass)
    chosen = tl.load(logits + row.to(tl.int64) * stride + tl.load(tokens + row)).to(tl.float32)
    tl.store(values + row * (1 + count), chosen - total)
    likeliest = tl.load(best + row * count + place, place < count, 0.0)
    tl.store(values + row * (1 + count) + 1 + place, likeliest - total, place < count)
