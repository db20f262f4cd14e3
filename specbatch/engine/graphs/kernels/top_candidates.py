"""The few likeliest tokens of each row of logits: groups of neighbouring tokens first, then the tokens of the best groups."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_GROUP = 64  # tokens that are first looked at as one
_MOST = 64  # candidates, beyond which a sort in rounds is no gain
_LEAST_KEY = tl.constexpr(-(2**63))  # below the key of every value
_BLOCK_OF_GROUPS = 4096  # tokens of a program


def top_candidates(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The likeliest tokens of each row, the likeliest first, and of equals the lowest id; of a row with NaN any.

    The `count` likeliest tokens lie in the `count` groups of neighbouring tokens whose likeliest are the likeliest, so one
    pass finds each group's, and a program a row then looks for the groups and in them.

    Args:
        logits: [R, vocab]
        count: how many of each row, at most vocab.

    Returns:
        values float32 [R, count], ids int64 [R, count]
    """
    rows, vocab = logits.shape
    assert 0 < count <= vocab
    on_kernels = logits.device.type != "cpu" or triton.knobs.runtime.interpret
    if count > _MOST or not on_kernels:
        return _top_by_sort(logits, count)
    assert logits.stride(1) == 1
    values = torch.empty((rows, count), dtype=torch.float32, device=logits.device)
    ids = torch.empty((rows, count), dtype=torch.int64, device=logits.device)
    groups = triton.cdiv(vocab, _GROUP)
    best = torch.empty((rows, groups), dtype=torch.float32, device=logits.device)
    if rows:
        height = min(_BLOCK_OF_GROUPS // _GROUP // (1 if rows > 16 else 4), triton.next_power_of_2(groups))
        _group_best[(rows, triton.cdiv(groups, height))](
            logits, best, logits.stride(0), vocab, groups, height, _GROUP, num_warps=max(1, height * _GROUP // 1024)
        )
        width, slots = triton.next_power_of_2(groups), triton.next_power_of_2(count)
        _top_of_groups[(rows,)](
            logits, best, values, ids, logits.stride(0), vocab, groups, count, width, slots, _GROUP, num_warps=8
        )
    return values, ids


def _top_by_sort(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """top_candidates in PyTorch; what topk does with equals is its own, so the keys are all different."""
    bits = torch.where(logits == 0, 0.0, logits.float()).view(torch.int32).long()
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    last = logits.shape[-1] - 1
    ids = torch.arange(last, -1, -1, device=logits.device)
    ids = last - ((ordered << 32) + ids).topk(count, dim=-1).values.bitwise_and(0xFFFFFFFF)
    return logits.gather(-1, ids).float(), ids


@triton.jit
def _key(values, ids):
    """Orders as the values do, and equal ones from the lowest id; every key is another.  # int64"""
    bits = tl.where(values == 0.0, 0.0, values).to(tl.int32, bitcast=True)  # of the two zeros
    ordered = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    return (ordered.to(tl.int64) << 32) | (0x7FFFFFFF - ids).to(tl.int64)


@triton.jit
def _id(key):
    return 0x7FFFFFFF - (key & 0x7FFFFFFF).to(tl.int32)


@triton.jit
def _group_best(logits, best, stride, vocab, groups, height: tl.constexpr, group: tl.constexpr):
    """The greatest logit of each group."""
    row = tl.program_id(0).to(tl.int64)
    line = tl.program_id(1) * height + tl.arange(0, height)
    tokens = line[:, None] * group + tl.arange(0, group)[None, :]
    score = tl.load(logits + row * stride + tokens, tokens < vocab, -float("inf")).to(tl.float32)
    tl.store(best + row * groups + line, tl.max(score, 1), line < groups)


@triton.jit(do_not_specialize=["count"])
def _top_of_groups(
    logits,
    best,
    values,
    ids,
    stride,
    vocab,
    groups,
    count,
    width: tl.constexpr,
    slots: tl.constexpr,
    group: tl.constexpr,
):
    """Takes the greatest `count` times: first of the groups, then of these groups' tokens."""
    row = tl.program_id(0).to(tl.int64)
    line = tl.arange(0, width)
    slot = tl.arange(0, slots)
    nothing = tl.full([], _LEAST_KEY, tl.int64)
    key = _key(tl.load(best + row * groups + line, line < groups, 0.0), line)
    key = tl.where(line < groups, key, nothing)
    chosen = tl.full([slots], -1, tl.int32)
    for index in range(count):
        greatest = tl.max(key, 0)
        chosen = tl.where((slot == index) & (greatest > nothing), _id(greatest), chosen)
        key = tl.where(key == greatest, nothing, key)

    tokens = tl.reshape(chosen[:, None] * group + tl.arange(0, group)[None, :], [slots * group])
    there = (tokens >= 0) & (tokens < vocab)
    key = _key(tl.load(logits + row * stride + tokens, there, 0.0).to(tl.float32), tokens)
    key = tl.where(there, key, nothing)
    for index in range(count):
        greatest = tl.max(key, 0)
        bits = (greatest >> 32).to(tl.int32)
        value = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits).to(tl.float32, bitcast=True)
        tl.store(values + row * count + index, value)
        tl.store(ids + row * count + index, _id(greatest).to(tl.int64))
        key = tl.where(key == greatest, nothing, key)
