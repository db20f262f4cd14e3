"""Kernels of linears whose weights and inputs are FP8: read as stored, and scaled block by block; see linears/w8a8.py.

Names of sizes: T tokens, N outputs, K inputs. Scales are those of groups of GROUP inputs, or of all of them where `by_group` (of weights)
or `x_by_group` (of inputs) is off: weights have [ceil(N / rows), columns] of them, inputs [groups, T], x_stride from one group to the next.
"""

# ruff: noqa: RUF005 - Triton adds tuples, and does not unpack them
# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator, assignment, unreachable"

from __future__ import annotations

import triton
import triton.language as tl

from specbatch.engine.graphs.kernels.linears.epilogue import write
from specbatch.engine.graphs.kernels.linears.w8a8_rounding import divided, scale_of

GROUP = tl.constexpr(128)


@triton.jit(do_not_specialize=["tokens", "x_stride"])
def on_tensor_cores(
    x, x_scales, weight, scales, extra, out, rounded, rounded_scales, scratch, counters, tokens, outs, ins, columns, rows, x_stride,
    block_n: tl.constexpr, block_t: tl.constexpr, split: tl.constexpr,
    many: tl.constexpr, by_group: tl.constexpr, x_by_group: tl.constexpr, shared: tl.constexpr,
    gated: tl.constexpr, rounds: tl.constexpr, kind: tl.constexpr, even_n: tl.constexpr, even_k: tl.constexpr,
    activation: tl.constexpr, early: tl.constexpr, ahead: tl.constexpr, alone: tl.constexpr, overlapped: tl.constexpr,
):  # fmt: skip
    """A tile of block_n outputs of block_t tokens, or one of `split` stretches of its inputs, GROUP of them a step.

    many: several tiles of tokens
    shared: a tile's outputs share scales
    ahead, alone: of all steps so many; whether these are all
    rounds: what is written is rounded for the next linear as well, under a scale for all of a tile's outputs
    """
    if overlapped and early:
        tl.extra.cuda.gdc_launch_dependents()
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
    at = scales + ((first + row) // rows) * columns
    at_ups = scales + ((first + row + outs) // rows) * columns
    if shared:
        at = scales + (first // rows) * columns
        at_ups = scales + ((first + outs) // rows) * columns
    # Weights of the last steps are asked for before the inputs are there, and lie in shared memory until the end.
    rest = steps - ahead
    tiles_ahead = ()
    ups_ahead = ()
    owns_ahead = ()
    for i in tl.static_range(ahead):
        offset = (begin + rest + i) * GROUP
        tiles_ahead = tiles_ahead + (tl.load(starts + weights + offset, eviction_policy="evict_first"),)
        if gated:
            ups_ahead = ups_ahead + (tl.load(ups + weights + offset, eviction_policy="evict_first"),)
        owns_ahead = owns_ahead + (_owns(at, at_ups, begin + rest + i, by_group, gated),)
    if overlapped:
        tl.extra.cuda.gdc_wait()

    inputs_ahead = ()
    scales_ahead = ()
    for i in tl.static_range(ahead):
        offset = (begin + rest + i) * GROUP
        inputs_ahead = inputs_ahead + (tl.load(x.to(tl.pointer_type(tl.int8)) + inputs + offset, mask=wanted[None, :], other=0),)  # fmt: skip
        scales_ahead = scales_ahead + (_of_inputs(x_scales + t, x_stride, begin + rest + i, wanted, x_by_group),)
    acc = tl.full((block_n, block_t), 0.0, tl.float32)
    acc_up = tl.full((block_n, block_t), 0.0, tl.float32)
    if not alone:
        # Scales are asked for a step before they are needed: unlike operands, they do not come through shared memory.
        following = tl.minimum(begin, groups - 1)
        x_next = _of_inputs(x_scales + t, x_stride, following, wanted, x_by_group)
        own_next, up_next = _owns(at, at_ups, following, by_group, gated)
        for step in tl.range(rest):
            group = begin + step
            x_scale, own, own_up = x_next, own_next, up_next
            following = tl.minimum(group + 1, groups - 1)
            x_next = _of_inputs(x_scales + t, x_stride, following, wanted, x_by_group)
            own_next, up_next = _owns(at, at_ups, following, by_group, gated)
            offset = group * GROUP
            if even_k:
                b = tl.load(x + inputs + offset, mask=wanted[None, :], other=0.0)
                a = tl.load(starts + weights + offset, eviction_policy="evict_last" if many else "evict_first")
            else:
                left = ins - offset
                b = tl.load(x + inputs + offset, mask=wanted[None, :] & (k[:, None] < left), other=0.0)
                a = tl.load(starts + weights + offset, mask=k[None, :] < left, other=0.0)
            acc += _scaled(tl.dot(a, b), x_scale, own, by_group, x_by_group, shared)
            if gated:
                if even_k:
                    c = tl.load(ups + weights + offset, eviction_policy="evict_last" if many else "evict_first")
                else:
                    c = tl.load(ups + weights + offset, mask=k[None, :] < left, other=0.0)
                acc_up += _scaled(tl.dot(c, b), x_scale, own_up, by_group, x_by_group, shared)
    for i in tl.static_range(ahead):
        b = inputs_ahead[i].to(x.dtype.element_ty, bitcast=True)
        own, own_up = owns_ahead[i]
        acc += _scaled(tl.dot(tiles_ahead[i], b), scales_ahead[i], own, by_group, x_by_group, shared)
        if gated:
            acc_up += _scaled(tl.dot(ups_ahead[i], b), scales_ahead[i], own_up, by_group, x_by_group, shared)

    if overlapped and not early:
        tl.extra.cuda.gdc_launch_dependents()
    last = True
    if split > 1:
        cell = tl.arange(0, block_n)[:, None] * block_t + tl.arange(0, block_t)[None, :]
        size: tl.constexpr = block_n * block_t * (1 + gated)
        mine = scratch + program * (split * size)
        tl.store(mine + part * size + cell, acc)
        if gated:
            tl.store(mine + part * size + block_n * block_t + cell, acc_up)
        tl.debug_barrier()  # all threads' stores come before the count, which releases them
        last = tl.atomic_add(counters + program, 1, sem="acq_rel") == split - 1
        if last:
            acc = tl.full((block_n, block_t), 0.0, tl.float32)
            acc_up = tl.full((block_n, block_t), 0.0, tl.float32)
            for i in tl.static_range(split):
                acc += tl.load(mine + i * size + cell, cache_modifier=".cg")
                if gated:
                    acc_up += tl.load(mine + i * size + block_n * block_t + cell, cache_modifier=".cg")
            tl.store(counters + program, 0)  # for the next launch
    if last:
        if not x_by_group:
            factor = tl.load(x_scales + t, mask=wanted, other=0.0)[None, :]
            acc *= factor
            acc_up *= factor
        if not by_group:
            acc *= tl.load(scales + ((first + row) // rows) * columns)[:, None]
            if gated:
                acc_up *= tl.load(scales + ((first + row + outs) // rows) * columns)[:, None]
        y = write(acc, acc_up, 0.0, 1.0, extra, out, n, t, tokens, outs, 0.0, False, gated, kind, activation)
        if rounds:
            wide = y.to(out.dtype.element_ty).to(tl.float32)
            most = tl.max(tl.abs(wide), axis=0)
            scale = scale_of(most)
            few = divided(wide, scale[None, :], (1.0 / scale)[None, :]).to(tl.float8e4nv)
            tl.store(rounded + t.to(tl.int64)[None, :] * outs + n[:, None], few, mask=wanted[None, :])
            tl.store(rounded_scales + tile * x_stride + t, scale, mask=wanted)


@triton.jit
def _of_inputs(scales, stride, group, wanted, x_by_group: tl.constexpr):
    """The inputs' scales."""
    found = 1.0
    if x_by_group:
        found = tl.load(scales + group * stride, mask=wanted, other=0.0)
    return found


@triton.jit
def _owns(at, at_ups, group, by_group: tl.constexpr, gated: tl.constexpr):
    """The weights' scales, and the ups'."""
    own, own_up = 1.0, 1.0
    if by_group:
        own = tl.load(at + group)
        own_up = own
        if gated:
            own_up = tl.load(at_ups + group)
    return own, own_up


@triton.jit
def _scaled(products, x_scale, own, by_group: tl.constexpr, x_by_group: tl.constexpr, shared: tl.constexpr):
    """Times the scales of a group."""
    factor = 1.0
    if x_by_group:
        factor = x_scale[None, :]
    if by_group:
        factor = factor * (own if shared else own[:, None])
    if by_group or x_by_group:
        products = products * factor
    return products
