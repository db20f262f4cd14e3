"""Kernels of linears whose weights and inputs are FP8: read as stored, and scaled block by block; see linears/w8a8.py.

Names of sizes: T tokens, N outputs, K inputs. Scales are those of groups of GROUP inputs, or of all of them where `by_group` (of weights)
or `x_by_group` (of inputs) is off: weights have [ceil(N / rows), columns] of them, inputs [T, groups].
"""

# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from specbatch.engine.graphs.kernels.linears.epilogue import write

GROUP = tl.constexpr(128)


@triton.jit
def in_registers(
    x, x_scales, weight, scales, extra, out, outs, ins, columns, rows,
    block_n: tl.constexpr, block_k: tl.constexpr, tail: tl.constexpr, count: tl.constexpr,
    by_group: tl.constexpr, x_by_group: tl.constexpr,
    gated: tl.constexpr, kind: tl.constexpr, even_n: tl.constexpr, even_k: tl.constexpr,
    early: tl.constexpr, activation: tl.constexpr, overlapped: tl.constexpr,
):  # fmt: skip
    """As fma of linear_fma.py: all weights of block_n outputs are asked for before the kernel ahead has ended.

    rows: outputs that share scales; those of a program do where `by_group`
    columns: scales of such outputs
    """
    if overlapped and early:
        tl.extra.cuda.gdc_launch_dependents()
    first = tl.program_id(0) * block_n
    row = tl.arange(0, block_n)
    n = first + row
    if not even_n:
        row = tl.minimum(n, outs - 1) - first
    starts = weight + first.to(tl.int64) * ins + row[:, None] * ins
    ups = starts + tl.cast(outs, tl.int64) * ins
    k = tl.arange(0, block_k)
    k_tail = block_k + tl.arange(0, tail or 1)
    a = _bytes(starts, k, ins, True)
    c = a
    if gated:
        c = _bytes(ups, k, ins, True)
    a_tail = a
    c_tail = a
    if tail:
        a_tail = _bytes(starts, k_tail, ins, even_k)
        if gated:
            c_tail = _bytes(ups, k_tail, ins, even_k)
    at = ((first + row) // rows) * columns
    at_ups = ((first + row + outs) // rows) * columns
    if overlapped:
        tl.extra.cuda.gdc_wait()

    token = tl.arange(0, 1)
    for i in tl.static_range(count):
        y, up = _sums(x, x_scales, scales, a, c, k, i, first, outs, ins, columns, rows, by_group, x_by_group, gated, True)  # fmt: skip
        if tail:
            y_tail, up_tail = _sums(x, x_scales, scales, a_tail, c_tail, k_tail, i, first, outs, ins, columns, rows, by_group, x_by_group, gated, even_k)  # fmt: skip
            y += y_tail
            up += up_tail
        if not by_group:
            y = y * tl.load(scales + at)
            if gated:
                up = up * tl.load(scales + at_ups)
        if not x_by_group:
            y = y * tl.load(x_scales + i)
            if gated:
                up = up * tl.load(x_scales + i)
        write(y[:, None], up[:, None], 0.0, 1.0, extra, out, n, token + i, count, outs, 0.0, False, gated, kind, activation)  # fmt: skip
    if overlapped and not early:
        tl.extra.cuda.gdc_launch_dependents()


@triton.jit
def _sums(
    x, x_scales, scales, a, c, k, i, first, outs, ins, columns, rows,
    by_group: tl.constexpr, x_by_group: tl.constexpr, gated: tl.constexpr, even: tl.constexpr,
):  # fmt: skip
    """Products of token i with weights and ups; scales of groups are brought into its inputs, once for all outputs."""
    if even:
        b = tl.load(x + i * ins + k, eviction_policy="evict_last").to(tl.float32)
    else:
        b = tl.load(x + i * ins + k, mask=k < ins, other=0.0, eviction_policy="evict_last").to(tl.float32)
    group = tl.minimum(k // GROUP, (ins - 1) // GROUP)
    if x_by_group:
        b = b * tl.load(x_scales + i * ((ins + GROUP - 1) // GROUP) + group)
    d = b
    if by_group:
        if gated:
            d = b * tl.load(scales + ((first + outs) // rows) * columns + group)
        b = b * tl.load(scales + (first // rows) * columns + group)
    y = tl.sum(a.to(tl.float32) * b[None, :], axis=1)
    up = y
    if gated:
        up = tl.sum(c.to(tl.float32) * d[None, :], axis=1)
    return y, up


@triton.jit
def _bytes(starts, k, ins, even: tl.constexpr):
    if even:
        values = tl.load(starts + k[None, :], eviction_policy="evict_first")
    else:
        values = tl.load(starts + k[None, :], mask=k[None, :] < ins, other=0.0, eviction_policy="evict_first")
    return values


@triton.jit(do_not_specialize=["tokens"])
def on_tensor_cores(
    x, x_scales, weight, scales, extra, out, scratch, counters, tokens, outs, ins, columns, rows,
    block_n: tl.constexpr, block_t: tl.constexpr, split: tl.constexpr, many: tl.constexpr,
    by_group: tl.constexpr, x_by_group: tl.constexpr, shared: tl.constexpr,
    gated: tl.constexpr, kind: tl.constexpr, even_n: tl.constexpr, even_k: tl.constexpr,
    activation: tl.constexpr, overlapped: tl.constexpr,
):  # fmt: skip
    """A tile of block_n outputs of block_t tokens, or one of `split` stretches of its inputs, GROUP of them a step.

    many: both operands go to the tensor cores as FP8, and there are several tiles of tokens; else both widened, exactly, which
        takes no more time where memory is what is waited for
    shared: a tile's outputs share scales
    """
    program, part = tl.program_id(0), tl.program_id(1)
    tile, first_t = program, 0
    if many:
        # Tiles of the same outputs are next to each other: their weights come from the cache.
        tiles = (tokens + block_t - 1) // block_t
        first_t = (program % tiles) * block_t
        tile = program // tiles
    first = tile * block_n
    row = tl.arange(0, block_n)
    n = first + row
    t = first_t + tl.arange(0, block_t)
    k = tl.arange(0, GROUP)
    # Rows beyond the last read the last again: cheaper than a mask, and they are not written.
    if not even_n:
        row = tl.minimum(n, outs - 1) - first
    groups = (ins + GROUP - 1) // GROUP
    steps = (groups + split - 1) // split
    begin = part * steps
    starts = weight + first.to(tl.int64) * ins
    ups = starts + tl.cast(outs, tl.int64) * ins
    weights = row[:, None] * ins + k[None, :]
    wanted = t < tokens
    inputs = t.to(tl.int64)[None, :] * ins + k[:, None]
    at = ((first + row) // rows) * columns
    at_ups = ((first + row + outs) // rows) * columns
    if shared:
        at = (first // rows) * columns
        at_ups = ((first + outs) // rows) * columns
    if overlapped:
        tl.extra.cuda.gdc_wait()

    acc = tl.full((block_n, block_t), 0.0, tl.float32)
    acc_up = tl.full((block_n, block_t), 0.0, tl.float32)
    for step in tl.range(steps):
        group = begin + step
        offset = group * GROUP
        if even_k:
            b = tl.load(x + inputs + offset, mask=wanted[None, :], other=0.0)
            a = tl.load(starts + weights + offset, eviction_policy="evict_last" if many else "evict_first")
        else:
            left = ins - offset
            b = tl.load(x + inputs + offset, mask=wanted[None, :] & (k[:, None] < left), other=0.0)
            a = tl.load(starts + weights + offset, mask=k[None, :] < left, other=0.0)
        group = tl.minimum(group, groups - 1)
        factor = tl.full((1, block_t), 1.0, tl.float32)
        if x_by_group:
            factor = tl.load(x_scales + t * groups + group, mask=wanted, other=0.0)[None, :]
        acc += _products(a, b, many) * _scaled(factor, scales + at, group, by_group, shared)
        if gated:
            if even_k:
                c = tl.load(ups + weights + offset, eviction_policy="evict_first")
            else:
                c = tl.load(ups + weights + offset, mask=k[None, :] < left, other=0.0)
            acc_up += _products(c, b, many) * _scaled(factor, scales + at_ups, group, by_group, shared)
    if not x_by_group:
        factor = tl.load(x_scales + t, mask=wanted, other=0.0)[None, :]
        acc *= factor
        acc_up *= factor
    if not by_group:
        acc *= tl.load(scales + ((first + row) // rows) * columns)[:, None]
        if gated:
            acc_up *= tl.load(scales + ((first + row + outs) // rows) * columns)[:, None]

    if overlapped:
        tl.extra.cuda.gdc_launch_dependents()
    last = True
    if split > 1:
        cell = tl.arange(0, block_n)[:, None] * block_t + tl.arange(0, block_t)[None, :]
        mine = scratch + program * (split * block_n * block_t)
        tl.store(mine + part * (block_n * block_t) + cell, acc)
        tl.debug_barrier()  # all threads' stores come before the count, which releases them
        last = tl.atomic_add(counters + program, 1, sem="acq_rel") == split - 1
        if last:
            acc = tl.full((block_n, block_t), 0.0, tl.float32)
            for i in tl.static_range(split):
                acc += tl.load(mine + i * (block_n * block_t) + cell, cache_modifier=".cg")
            tl.store(counters + program, 0)  # for the next launch
    if last:
        write(acc, acc_up, 0.0, 1.0, extra, out, n, t, tokens, outs, 0.0, False, gated, kind, activation)


@triton.jit
def _products(a, b, many: tl.constexpr):
    """Of the weights and inputs of a group, summed in float32."""
    if not many:
        a = a.to(tl.float16)
        b = b.to(tl.float16)
    return tl.dot(a, b)


@triton.jit
def _scaled(factor, scales, group, by_group: tl.constexpr, shared: tl.constexpr):
    """The inputs' scales times those of the weights.  # [1 or block_n, block_t]"""
    if by_group:
        own = tl.load(scales + group)
        if not shared:
            own = own[:, None]
        factor = factor * own
    return factor
