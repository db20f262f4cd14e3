"""The tokens of each expert of a layer, sorted on the device: no program waits for another, and results do not depend on who is first.

E experts of a layer, K of a token, S = T * K pairs of a token and one of its experts. An expert E stands for none: a filler's.
"""

# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from specbatch.engine.graphs.kernels.overlap import overlap


class Grouped(NamedTuple):
    """Pairs by expert, in blocks that hold one expert's alone.

    order: pairs, those of one expert together  # int32 [S]
    blocks: expert, its first pair in `order` and the one behind its last; the same where there is nothing in it  # int32 [M, 3]
    size: pairs of a block, at the most
    """

    order: Tensor
    blocks: Tensor
    size: int


def group(experts: Tensor, count: int, size: int) -> Grouped:
    """Sorts pairs by their expert, each expert's in the order of tokens.

    Args:
        experts: int32 [T, K]
        count: E.
        size: pairs of a block, at the most.
    """
    pairs = experts.numel()
    most = min(pairs, pairs // size + min(pairs, count))
    order = torch.empty(pairs, dtype=torch.int32, device=experts.device)
    blocks = torch.empty(most, 3, dtype=torch.int32, device=experts.device)
    _group[(count,)](
        experts, order, blocks, pairs, most, count=count, width=triton.next_power_of_2(count), size=size,
        counted=32, placed=min(1024, max(16, triton.next_power_of_2(pairs))), num_warps=4, **overlap(experts.device),
    )  # fmt: skip
    return Grouped(order, blocks, size)


@triton.jit(do_not_specialize=["pairs", "most"])
def _group(
    experts, order, blocks, pairs, most,
    count: tl.constexpr, width: tl.constexpr, size: tl.constexpr, counted: tl.constexpr, placed: tl.constexpr,
    overlapped: tl.constexpr,
):  # fmt: skip
    """A program places one expert's pairs; how many those before it have, it counts for itself."""
    if overlapped:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()
    mine = tl.program_id(0)
    e = tl.arange(0, width)
    counts = tl.full((width,), 0, tl.int32)
    c = tl.arange(0, counted)
    for start in tl.range(0, pairs, counted):
        of = tl.load(experts + start + c, mask=start + c < pairs, other=count)
        counts += tl.sum((of[:, None] == e[None, :]).to(tl.int32), axis=0)
    counts = tl.where(e < count, counts, 0)
    begin = tl.sum(tl.where(e < mine, counts, 0), axis=0)
    own = tl.sum(tl.where(e == mine, counts, 0), axis=0)
    filled = (counts + size - 1) // size
    block = tl.sum(tl.where(e < mine, filled, 0), axis=0)
    of_mine = (own + size - 1) // size
    i = tl.arange(0, 64)
    for start in tl.range(0, of_mine, 64):
        at = start + i
        first = begin + at * size
        _store(blocks, block + at, mine, first, tl.minimum(first + size, begin + own), at < of_mine)
    if mine == count - 1:
        for start in tl.range(block + of_mine, most, 64):
            _store(blocks, start + i, 0, 0, 0, start + i < most)
    p = tl.arange(0, placed)
    done = begin
    for start in tl.range(0, pairs, placed):
        of = tl.load(experts + start + p, mask=start + p < pairs, other=count)
        here = (of == mine).to(tl.int32)
        rank = tl.cumsum(here, axis=0)
        tl.store(order + done + rank - 1, start + p, mask=here > 0)
        done += tl.sum(here, axis=0)


@triton.jit
def _store(blocks, at, expert, first, end, mask):
    tl.store(blocks + at * 3, expert + 0 * at, mask=mask)
    tl.store(blocks + at * 3 + 1, first + 0 * at, mask=mask)
    tl.store(blocks + at * 3 + 2, end + 0 * at, mask=mask)
