"""Attention over slots for the few tokens of a round, and the write of their KV, as Triton kernels.

PyTorch's attention makes a mask of numbers of the booleans, layer by layer, and has no kernel for one query a row: at 32 rows it took
more than half of a step of GPT-2.
"""

# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from specbatch.engine.general.kernels.single_query import attend_single, launch_options
from specbatch.engine.general.slot_write import SlotWrite

_MOST = 64  # queries of a KV head and row
_BLOCK = 64  # positions at a time
_SHARED = 64 << 10  # bytes of keys and values that a program keeps, of what the least of these GPUs have
_PROGRAMS = 264  # that occupy a GPU: above, no row is split
_DTYPES = (torch.bfloat16, torch.float16)  # of tensor cores: float32 takes half a minute to compile, and is no faster


def takes(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether there is a kernel for these; see attend."""
    queries = query.shape[1] // key.shape[1] * query.shape[2]
    alike = query.dtype == key.dtype == value.dtype and query.stride(3) == key.stride(3) == value.stride(3) == 1
    return alike and query.dtype in _DTYPES and 0 < queries <= _MOST and _stages(key, value) > 1


def _stages(key: Tensor, value: Tensor) -> int:
    """Steps whose loads are on their way at a time."""
    widths = sum(triton.next_power_of_2(tensor.shape[3]) for tensor in (key, value))
    return min(3, int(_SHARED // (_BLOCK * widths * key.element_size())))


def try_out(device: torch.device) -> None:
    """Runs kernels once, which raises what keeps them from being compiled."""
    x = torch.zeros(1, 1, 1, 16, dtype=torch.bfloat16, device=device)
    write(x, x, x, x, torch.zeros(1, 1, dtype=torch.int64, device=device))
    attend(x, x, x, torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device), 1.0)


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float, new: SlotWrite | None = None
) -> Tensor:
    """Scaled dot-product attention.

    Args:
        query: [n, heads, tokens, head_dim]
        key: [n, kv_heads, extent, head_dim]
        value: [n, kv_heads, extent, value_dim]
        mask: True where a query may look, somewhere in each row  # bool [n, 1, tokens, extent]
        scale: of the scores.
        new: what key and value do not have yet: it is written.

    Returns:
        [n, tokens, heads, value_dim]
    """
    count, heads, tokens, dim = query.shape
    kv_heads, extent, value_dim = key.shape[1], key.shape[2], value.shape[3]
    groups = heads // kv_heads
    single = groups * tokens == 1
    block_m = 1 if single else max(16, triton.next_power_of_2(groups * tokens))
    blocks = triton.cdiv(extent, _BLOCK)
    split = 1
    while count * kv_heads * split * 2 <= _PROGRAMS and split * 4 <= blocks:
        split *= 2
    out = query.new_empty(count, tokens, heads, value_dim)
    block_v = max(16, triton.next_power_of_2(value_dim))
    sizes = {"groups": groups, "value_dim": value_dim, "block_m": block_m, "block_v": block_v}
    parts = sums = out
    if split > 1:
        parts = query.new_empty(count, kv_heads, split, block_m, block_v, dtype=torch.float32)
        sums = query.new_empty(count, kv_heads, split, 2, block_m, dtype=torch.float32)
    assert mask.stride(3) == 1
    block_d = max(16, triton.next_power_of_2(dim))
    grid, places = (count, kv_heads, split), (*key.stride()[:3], *value.stride()[:3], mask.stride(0))
    with _current(query.device):
        if single:
            written: tuple[Any, ...] = (None, None, None, 0, 0, 0, 0, 0)
            if new is not None:
                written = (
                    new.key,
                    new.value,
                    new.positions,
                    *new.key.stride()[:2],
                    *new.value.stride()[:2],
                    new.positions.stride(0),
                )
            attend_single[grid](
                query, key, value, mask, out, parts, sums, *written, scale, extent, *query.stride()[:2], *places,
                dim=dim, value_dim=value_dim, block_d=block_d, block_v=block_v, split=split, **launch_options(max(block_d, block_v)),
            )  # fmt: skip
        else:
            if new is not None:
                new.do()
            _attend[grid](
                query, key, value, mask, out, parts, sums, scale, tokens, extent, *query.stride()[:3], *places, mask.stride(2),
                dim=dim, block_d=block_d, block=_BLOCK, split=split, **sizes, num_warps=4, num_stages=_stages(key, value),
            )  # fmt: skip
        if split > 1:
            _combine[(count, kv_heads)](out, parts, sums, tokens, split=split, **sizes, num_warps=4)
    return out


def write(keys: Tensor, values: Tensor, key: Tensor, value: Tensor, positions: Tensor) -> None:
    """Writes KV of tokens to their positions.

    Args:
        keys: [n, kv_heads, length, head_dim]
        values: [n, kv_heads, length, value_dim]
        key: [n, kv_heads, tokens, head_dim]
        value: [n, kv_heads, tokens, value_dim]
        positions: int64 [n, tokens]
    """
    count, heads, tokens, dim = key.shape
    value_dim = value.shape[3]
    with _current(key.device):
        _write[(count * tokens, heads)](
            keys, values, key, value, positions, tokens,
            *keys.stride()[:3], *values.stride()[:3], *key.stride(), *value.stride(), *positions.stride(),
            dim=dim, value_dim=value_dim, width=triton.next_power_of_2(max(dim, value_dim)), num_warps=1,
        )  # fmt: skip


def _current(device: torch.device) -> AbstractContextManager[Any]:
    """Triton launches on the current GPU; layers may be on several."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


@triton.jit(do_not_specialize=["tokens", "extent"])
def _attend(
    query, key, value, mask, out, parts, sums, scale, tokens, extent,
    query_row, query_head, query_token, key_row, key_head, key_position, value_row, value_head, value_position, mask_row, mask_token,
    groups: tl.constexpr, dim: tl.constexpr, value_dim: tl.constexpr,
    block_m: tl.constexpr, block_d: tl.constexpr, block_v: tl.constexpr, block: tl.constexpr, split: tl.constexpr,
):  # fmt: skip
    """The queries of a row that share a KV head, over all positions or one of `split` stretches of them."""
    row, head, part = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    m = tl.arange(0, block_m)
    own, token = m // tokens, m % tokens
    is_query = own < groups
    d, dv, j = tl.arange(0, block_d), tl.arange(0, block_v), tl.arange(0, block)
    at = (head * groups + own) * query_head + token * query_token
    q = tl.load(
        query + row * query_row + at[:, None] + d[None, :], mask=is_query[:, None] & (d < dim)[None, :], other=0.0
    )
    key += row * key_row + head * key_head
    value += row * value_row + head * value_head
    mask += row * mask_row + token[:, None] * mask_token
    most = tl.full((block_m,), float("-inf"), tl.float32)
    total = tl.full((block_m,), 0.0, tl.float32)
    acc = tl.full((block_m, block_v), 0.0, tl.float32)
    steps = (extent + block * split - 1) // (block * split)
    for step in tl.range(steps):
        position = (part * steps + step) * block + j
        inside = position < extent
        k = tl.load(
            key + position[None, :] * key_position + d[:, None], mask=inside[None, :] & (d < dim)[:, None], other=0.0
        )
        v = tl.load(value + position[:, None] * value_position + dv[None, :], mask=inside[:, None] & (dv < value_dim)[None, :], other=0.0)  # fmt: skip
        sees = tl.load(mask + position[None, :], mask=is_query[:, None] & inside[None, :], other=0)
        scores = tl.where(
            (sees != 0) | (own >= groups)[:, None], tl.dot(q, k, input_precision="ieee") * scale, float("-inf")
        )
        highest = tl.maximum(most, tl.max(scores, axis=1))
        base = tl.where(highest == float("-inf"), 0.0, highest)  # of a stretch that nobody sees
        weights = tl.exp(scores - base[:, None])
        kept = tl.exp(most - base)
        total = total * kept + tl.sum(weights, axis=1)
        acc = acc * kept[:, None] + tl.dot(weights.to(v.dtype), v, input_precision="ieee")
        most = highest
    if split == 1:
        _store(out, acc / total[:, None], row, head, own, token, dv, is_query, tokens, groups, value_dim)
    else:
        place = (row * tl.num_programs(1) + head) * split + part
        tl.store(parts + place * (block_m * block_v) + m[:, None] * block_v + dv[None, :], acc)
        tl.store(sums + place * (2 * block_m) + m, most)
        tl.store(sums + place * (2 * block_m) + block_m + m, total)


@triton.jit(do_not_specialize=["tokens"])
def _combine(
    out, parts, sums, tokens,
    groups: tl.constexpr, value_dim: tl.constexpr,
    block_m: tl.constexpr, block_v: tl.constexpr, split: tl.constexpr,
):  # fmt: skip
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    m, dv = tl.arange(0, block_m), tl.arange(0, block_v)
    own, token = m // tokens, m % tokens
    first = (row * tl.num_programs(1) + head) * split
    most = tl.full((block_m,), float("-inf"), tl.float32)
    for part in tl.static_range(split):
        most = tl.maximum(most, tl.load(sums + (first + part) * (2 * block_m) + m))
    total = tl.full((block_m,), 0.0, tl.float32)
    acc = tl.full((block_m, block_v), 0.0, tl.float32)
    for part in tl.static_range(split):
        place = first + part
        weight = tl.exp(tl.load(sums + place * (2 * block_m) + m) - most)
        total += weight * tl.load(sums + place * (2 * block_m) + block_m + m)
        acc += weight[:, None] * tl.load(parts + place * (block_m * block_v) + m[:, None] * block_v + dv[None, :])
    _store(out, acc / total[:, None], row, head, own, token, dv, own < groups, tokens, groups, value_dim)


@triton.jit
def _store(out, acc, row, head, own, token, dv, is_query, tokens, groups: tl.constexpr, value_dim: tl.constexpr):
    heads = tl.num_programs(1) * groups
    at = ((row * tokens + token) * heads + head * groups + own) * value_dim
    tl.store(out + at[:, None] + dv[None, :], acc.to(out.dtype.element_ty), mask=is_query[:, None] & (dv < value_dim)[None, :])  # fmt: skip


@triton.jit(do_not_specialize=["tokens"])
def _write(
    keys, values, key, value, positions, tokens,
    keys_row, keys_head, keys_position, values_row, values_head, values_position,
    key_row, key_head, key_token, key_width, value_row, value_head, value_token, value_width, position_row, position_token,
    dim: tl.constexpr, value_dim: tl.constexpr, width: tl.constexpr,
):  # fmt: skip
    row, token = (tl.program_id(0) // tokens).to(tl.int64), tl.program_id(0) % tokens
    head, d = tl.program_id(1), tl.arange(0, width)
    position = tl.load(positions + row * position_row + token * position_token)
    k = tl.load(key + row * key_row + head * key_head + token * key_token + d * key_width, mask=d < dim)
    v = tl.load(value + row * value_row + head * value_head + token * value_token + d * value_width, mask=d < value_dim)
    tl.store(keys + row * keys_row + head * keys_head + position * keys_position + d, k, mask=d < dim)
    tl.store(values + row * values_row + head * values_head + position * values_position + d, v, mask=d < value_dim)
