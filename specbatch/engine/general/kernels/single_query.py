"""Attention of one query a row and KV head over a slot, as a Triton kernel: what a plain round of a model without shared heads asks for.

The token's own KV is written on the way.

Keys and values are read once and straight into registers, without tensor cores, which would multiply fifteen lines of nothing. Each of a block's positions
keeps a softmax of its own, block after block, so that no sum goes across threads before the last one.
"""

# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

TILE = 2048  # numbers of a block of keys: with 64 registers a thread, all programs of 32 rows of 32 heads are at work at once
REGISTERS = 64
WARPS = 4
STAGES = 3  # blocks whose loads are on their way at a time


def launch_options(width: int) -> dict[str, int]:
    """Of heads so wide, a power of two."""
    block = max(16, TILE // width)
    limit = {"maxnreg": REGISTERS} if block * width <= TILE and not triton.knobs.runtime.interpret else {}
    return {"block": block, "stages": STAGES, "num_warps": WARPS, **limit}


@triton.jit(do_not_specialize=["extent"])
def attend_single(
    query, key, value, mask, out, parts, sums,
    new_key, new_value, positions, new_key_row, new_key_head, new_value_row, new_value_head, positions_row, scale, extent,
    query_row, query_head, key_row, key_head, key_position, value_row, value_head, value_position, mask_row,
    dim: tl.constexpr, value_dim: tl.constexpr, block_d: tl.constexpr, block_v: tl.constexpr, block: tl.constexpr, split: tl.constexpr, stages: tl.constexpr,
):  # fmt: skip
    """As slots._attend, of one query.

    new_key, new_value: of the token at its position, which are written there; None where they have been  # [n, kv_heads, 1, dim]
    """
    row, head, part = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    heads = tl.num_programs(1)
    d, dv, j = tl.arange(0, block_d), tl.arange(0, block_v), tl.arange(0, block)
    q = tl.load(query + row * query_row + head * query_head + d, mask=d < dim, other=0.0).to(tl.float32) * scale
    key += row * key_row + head * key_head
    value += row * value_row + head * value_head
    if positions is not None:
        own = tl.load(positions + row * positions_row)
        own_key = tl.load(new_key + row * new_key_row + head * new_key_head + d, mask=d < dim, other=0.0)
        own_value = tl.load(
            new_value + row * new_value_row + head * new_value_head + dv, mask=dv < value_dim, other=0.0
        )
        if part == 0:
            tl.store(key + own * key_position + d, own_key, mask=d < dim)
            tl.store(value + own * value_position + dv, own_value, mask=dv < value_dim)
    most = tl.full((block,), float("-inf"), tl.float32)
    total = tl.full((block,), 0.0, tl.float32)
    acc = tl.full((block, block_v), 0.0, tl.float32)
    steps = (extent + block * split - 1) // (block * split)
    begin, end = part * steps * block, tl.minimum((part + 1) * steps * block, extent)
    if positions is not None:
        end = tl.minimum(end, own.to(tl.int32) + 1)  # behind it lies nothing that anyone sees
    for start in tl.range(begin, end, block, num_stages=stages):
        position = start + j
        inside = position < end
        sees = tl.load(mask + row * mask_row + position, mask=inside, other=0) != 0
        k = tl.load(key + position[:, None] * key_position + d[None, :], mask=inside[:, None] & (d < dim)[None, :], other=0.0)  # fmt: skip
        v = tl.load(value + position[:, None] * value_position + dv[None, :], mask=inside[:, None] & (dv < value_dim)[None, :], other=0.0)  # fmt: skip
        if positions is not None:  # what is being written may not be there yet
            k = tl.where((position == own)[:, None], own_key[None, :], k)
            v = tl.where((position == own)[:, None], own_value[None, :], v)
        score = tl.where(sees, tl.sum(k.to(tl.float32) * q[None, :], axis=1), float("-inf"))
        highest = tl.maximum(most, score)
        base = tl.where(highest == float("-inf"), 0.0, highest)  # of positions of which none is seen yet
        weight = tl.exp(score - base)
        kept = tl.exp(most - base)
        total = total * kept + weight
        acc = acc * kept[:, None] + weight[:, None] * v.to(tl.float32)
        most = highest
    greatest = tl.max(most, 0)
    share = tl.exp(most - tl.where(greatest == float("-inf"), 0.0, greatest))
    total = tl.sum(total * share, 0)
    acc = tl.sum(acc * share[:, None], 0)
    if split == 1:
        at = (row * heads + head) * value_dim
        tl.store(out + at + dv, (acc / total).to(out.dtype.element_ty), mask=dv < value_dim)
    else:
        place = (row * heads + head) * split + part
        tl.store(parts + place * block_v + dv, acc)
        tl.store(sums + place * 2, greatest)
        tl.store(sums + place * 2 + 1, total)
