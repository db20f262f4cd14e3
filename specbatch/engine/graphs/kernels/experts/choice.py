"""The choice of a token's experts within the kernels that read them: each program makes it for itself, which costs less than a kernel's boundary.

Not by one maximum after the other, each a round of all warps: an expert's rank is the number of experts before it, all of them counted at once.
"""

# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from specbatch.engine.graphs.describe.description import Routing

MOST = 128  # experts, whose comparisons with each other a program has room for


def chooses(routing: Routing) -> bool:
    """Whether programs choose for themselves, see above."""
    return routing.groups == 1 and routing.experts <= MOST


@triton.jit
def ranked(logits, bias, count: tl.constexpr, places: tl.constexpr, sigmoid: tl.constexpr, biased: tl.constexpr):
    """Of a token's logits: its experts, their scores and ranks, and whether some logit is no number.  # [places], [places], [places], scalar"""
    e = tl.arange(0, places)
    x = tl.load(logits + e, mask=e < count, other=float("-inf"))
    broken = tl.max((x != x).to(tl.int32), axis=0) > 0  # noqa: PLR0124  # comparisons would lose it
    highest = tl.max(x, axis=0)
    total = 1.0
    if not sigmoid:
        total = tl.sum(tl.exp(x - highest), axis=0)
    scores, here = _scored(x, bias, e, highest, total, count, sigmoid, biased)
    rank = tl.full((places,), 0, tl.int32)
    few: tl.constexpr = min(places, 16)  # all at once would take the registers that weights are to have
    for start in tl.range(0, places, few):
        o = start + tl.arange(0, few)
        y = tl.load(logits + o, mask=o < count, other=float("-inf"))
        _, other = _scored(y, bias, o, highest, total, count, sigmoid, biased)
        before = (other[None, :] > here[:, None]) | ((other[None, :] == here[:, None]) & (o[None, :] < e[:, None]))
        rank += tl.sum(before.to(tl.int32), axis=1)
    return e, scores, rank, broken


@triton.jit
def _scored(x, bias, e, highest, total, count: tl.constexpr, sigmoid: tl.constexpr, biased: tl.constexpr):
    """Scores of some experts, and what chooses among them."""
    scores = 1.0 / (1.0 + tl.exp(-x)) if sigmoid else tl.exp(x - highest) / total
    choosing = scores
    if biased:
        choosing += tl.load(bias + e, mask=e < count, other=0.0).to(tl.float32)
    return scores, tl.where(e < count, choosing, float("-inf"))


@triton.jit
def of_rank(e, rank, place, filler, count: tl.constexpr):
    """The expert of a rank; `count`, which is none, of a filler's. Of logits that are no numbers any."""
    expert = tl.minimum(tl.sum(tl.where(rank == place, e, 0), axis=0), count - 1)
    return tl.where(filler, count, expert)
