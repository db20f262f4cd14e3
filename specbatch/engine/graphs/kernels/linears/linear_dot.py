"""Linears of two tokens or more on the tensor cores; see linear.py."""

# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from specbatch.engine.graphs.kernels.linears.epilogue import fetch, hand_on, write
from specbatch.engine.graphs.kernels.linears.linear_widen import of_groups, widen, widen_int4


@triton.jit(do_not_specialize=["tokens", "lines", "stretches"])
def dot(
    x, squares, weight, scales, extra, out, norm, scaled, squares_out, following, scratch, counters,
    tokens, outs, ins, eps, stretches, lines,
    block_n: tl.constexpr, block_k: tl.constexpr, block_t: tl.constexpr, split: tl.constexpr,
    room: tl.constexpr, many: tl.constexpr, int4_group: tl.constexpr, native: tl.constexpr, gated: tl.constexpr, kind: tl.constexpr, hands_on: tl.constexpr, line: tl.constexpr,
    even_n: tl.constexpr, even_k: tl.constexpr, early: tl.constexpr, activation: tl.constexpr, overlapped: tl.constexpr,
):  # fmt: skip
    """room: for the stretches whose sums of squares are in `squares`, where x is scaled by the norm's weights, else 0

    scales: of the weights of each output, or None; of its groups, with zero points in words, if they are int4: block_k then counts bytes
    int4_group: inputs of one, a power of two; 0: weights are not int4
    line: see fetch, or 0
    many: there are programs for each block_t of the tokens
    native: see linear_integers
    """
    if overlapped and early:
        tl.extra.cuda.gdc_launch_dependents()
    tile, part = tl.program_id(0), tl.program_id(1)
    first = tile * block_n
    row = tl.arange(0, block_n)
    n = first + row
    column = tl.arange(0, block_t)
    t, counted = column, tile
    if many:
        t += tl.program_id(2) * block_t
        counted += tl.program_id(2) * tl.num_programs(0)
    k = tl.arange(0, block_k)
    # Rows beyond the last read the last again: cheaper than a mask, and they are not written.
    if not even_n:
        row = tl.minimum(n, outs - 1) - first
    depth = ins
    if int4_group:
        depth = tl.multiple_of(ins // 2, 32)  # since inputs are a multiple of 64
    steps = (depth + block_k * split - 1) // (block_k * split)
    begin = part * steps * block_k
    rows = weight + first.to(tl.int64) * depth + begin
    ups = rows + tl.cast(outs, tl.int64) * depth
    if int4_group:
        groups = ins // int4_group
        of_row = (first + row)[:, None] * groups
        count: tl.constexpr = max(block_k // int4_group, 1)
        zeroed: tl.constexpr = scales.dtype.element_ty.is_int()
    elif scales is not None:
        scale = tl.load(scales + first + row)[:, None]
        scale_up = scale
        if gated:
            scale_up = tl.load(scales + outs + first + row)[:, None]
    if overlapped:
        tl.extra.cuda.gdc_wait()

    total = tl.full((1, block_t), 0.0, tl.float32)
    if room:
        stretch = tl.arange(0, room)
        at = squares + stretch[:, None] * block_t + t[None, :]
        pieces = tl.load(at, mask=(stretch < stretches)[:, None], other=0.0)
    weights = row[:, None] * depth + k[None, :]
    inputs = t[None, :] * ins + k[:, None] + begin
    wanted = (t < tokens)[None, :]
    acc = tl.full((block_n, block_t), 0.0, tl.float32)
    acc_up = tl.full((block_n, block_t), 0.0, tl.float32)
    for step in tl.range(steps):
        offset = step * block_k
        if even_k:
            a = tl.load(rows + weights + offset, eviction_policy="evict_first")
            b = tl.load(x + inputs + offset, mask=wanted, other=0.0, eviction_policy="evict_last")
        else:
            left = depth - begin - offset
            a = tl.load(rows + weights + offset, mask=k[None, :] < left, other=0.0, eviction_policy="evict_first")
            b = tl.load(x + inputs + offset, mask=wanted & (k[:, None] < left), other=0.0, eviction_policy="evict_last")
        if int4_group:
            if even_k:
                b_high = tl.load(x + inputs + (depth + offset), mask=wanted, other=0.0, eviction_policy="evict_last")
            else:
                b_high = tl.load(
                    x + inputs + (depth + offset),
                    mask=wanted & (k[:, None] < left),
                    other=0.0,
                    eviction_policy="evict_last",
                )
            group = (begin + offset) // int4_group
            low, high, zero, zero_high = of_groups(scales, of_row, group, groups, count, b.dtype)
            acc = tl.dot(widen_int4(a, low, zero, zeroed, 0, b.dtype, native), b, acc, input_precision="ieee")
            acc = tl.dot(
                widen_int4(a, high, zero_high, zeroed, 4, b.dtype, native), b_high, acc, input_precision="ieee"
            )
        else:
            acc = tl.dot(widen(a, b.dtype, native), b, acc, input_precision="ieee")
        if gated:
            if even_k:
                c = tl.load(ups + weights + offset, eviction_policy="evict_first")
            else:
                c = tl.load(ups + weights + offset, mask=k[None, :] < left, other=0.0, eviction_policy="evict_first")
            if int4_group:
                low, high, zero, zero_high = of_groups(scales, of_row + outs * groups, group, groups, count, b.dtype)
                acc_up = tl.dot(widen_int4(c, low, zero, zeroed, 0, b.dtype, native), b, acc_up, input_precision="ieee")
                acc_up = tl.dot(
                    widen_int4(c, high, zero_high, zeroed, 4, b.dtype, native), b_high, acc_up, input_precision="ieee"
                )
            else:
                acc_up = tl.dot(widen(c, b.dtype, native), b, acc_up, input_precision="ieee")

    if line:
        fetch(following, lines, tile * split + part, line)
    if overlapped and not early:
        tl.extra.cuda.gdc_launch_dependents()
    last = True
    if split > 1:
        cell = tl.arange(0, block_n)[:, None] * block_t + column[None, :]
        mine = scratch + counted * (split * block_n * block_t)
        tl.store(mine + part * (block_n * block_t) + cell, acc)
        tl.debug_barrier()  # all threads' stores come before the count, which releases them
        last = tl.atomic_add(counters + counted, 1, sem="acq_rel") == split - 1
        if last:
            acc = tl.full((block_n, block_t), 0.0, tl.float32)
            for i in tl.static_range(split):
                acc += tl.load(mine + i * (block_n * block_t) + cell, cache_modifier=".cg")
            tl.store(counters + counted, 0)  # for the next launch
    if last:
        if scales is not None and not int4_group:
            acc *= scale
            acc_up *= scale_up
        if room:
            total = tl.sum(pieces, axis=0)[None, :]
        y = write(acc, acc_up, total, ins, extra, out, n, t, tokens, outs, eps, room > 0, gated, kind, activation)
        if hands_on:
            hand_on(y, out, norm, scaled, squares_out, tile, n, t, tokens, outs, block_t)
