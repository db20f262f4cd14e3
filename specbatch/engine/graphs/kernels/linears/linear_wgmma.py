"""Linears of 9 to 64 tokens on Hopper's tensor cores, in Gluon: a program fills its shared memory with weights before its inputs are there.

Triton's pipelines begin where their loop does, behind the wait for the kernel before, and what is loaded ahead of it goes through
registers; here TMA copies as many steps' weights as shared memory holds, and the inputs of these follow when they are there.
"""

# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"

from __future__ import annotations

import torch
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_init,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

barrier = getattr(gl, "thread_barrier", None) or gl.barrier  # Triton up to 3.6, from 3.7


def descriptor(matrix: Tensor, rows: int, columns: int) -> TensorDescriptor:
    """A matrix of bfloat16 or FP8, of which so many rows and columns are copied at a time; those beyond its edges are zeros."""
    kind = gl.bfloat16 if matrix.dtype == torch.bfloat16 else gl.float8e4nv
    layout = gl.NVMMASharedLayout.get_default_for([rows, columns], kind)
    return TensorDescriptor(matrix, list(matrix.shape), list(matrix.stride()), [rows, columns], layout)


@gluon.jit
def wait():
    """Until the kernel before has ended, and what it wrote is there."""
    gl.inline_asm_elementwise("griddepcontrol.wait; // $0", "=r", [], dtype=gl.int32, is_pure=False, pack=1)


@gluon.jit
def let_next_start():
    """The kernel that follows may start."""
    gl.inline_asm_elementwise(
        "griddepcontrol.launch_dependents; // $0", "=r", [], dtype=gl.int32, is_pure=False, pack=1
    )


@gluon.jit
def ask_weights(weight, first, outs, k, arrived, places, place, gated: gl.constexpr, wanted):
    """Asks for a step's weights, those of gate and up where gated, into their places; `arrived` counts their bytes."""
    tma.async_copy_global_to_shared(weight, [first, k], arrived, places.index(place), pred=wanted)
    if gated:
        tma.async_copy_global_to_shared(weight, [first + outs, k], arrived, places.index(place + 1), pred=wanted)


@gluon.jit
def fill(weight, first, outs, begin, steps, arrived, places, size: gl.constexpr, stages: gl.constexpr, width: gl.constexpr, gated: gl.constexpr):  # fmt: skip
    """Asks for the weights of a program's first steps, `width` inputs each; `arrived` will count `size` bytes, the inputs' among them."""
    for i in gl.static_range(stages):
        mbarrier.init(arrived.index(i), count=1)
    for i in gl.static_range(stages):
        k = (begin + i) * width
        wanted = i < steps
        mbarrier.expect(arrived.index(i), size, pred=wanted)
        ask_weights(weight, first, outs, k, arrived.index(i), places, i * (1 + gated), gated, wanted)


@gluon.jit
def of_all_parts(acc, scratch, counters, tile, part, split: gl.constexpr, layout: gl.constexpr):
    """Sums of all programs of a tile in the order of their inputs, and whether this is the last of them: the others have nothing to write."""
    block_n: gl.constexpr = acc.shape[0]
    block_t: gl.constexpr = acc.shape[1]
    row = gl.arange(0, block_n, layout=gl.SliceLayout(1, layout))
    column = gl.arange(0, block_t, layout=gl.SliceLayout(0, layout))
    cell = scratch + tile * (split * block_n * block_t) + row[:, None] * block_t + column[None, :]
    gl.store(cell + part * (block_n * block_t), acc)
    barrier()  # all threads' stores come before the count, which releases them
    last = gl.atomic_add(counters + tile, 1, sem="acq_rel") == split - 1
    if last:
        acc = gl.full([block_n, block_t], 0.0, gl.float32, layout=layout)
        for i in gl.static_range(split):
            acc += gl.load(cell + i * (block_n * block_t), cache_modifier=".cg")
        gl.store(counters + tile, 0)  # for the next launch
    return acc, last


@gluon.jit
def with_extra(y, extra, n, outs, at, mask, kind: gl.constexpr):
    """Plus a bias (1) or a residual (2), by `kind`."""
    if kind == 1:
        y += gl.load(extra + n, mask=n < outs, other=0.0).to(gl.float32)[:, None]
    if kind == 2:
        y += gl.load(extra + at, mask=mask, other=0.0).to(gl.float32)
    return y


@gluon.jit(do_not_specialize=["tokens", "stretches"])
def on_wgmma(
    x, weight, squares, extra, out, norm, scaled, squares_out, scratch, counters, tokens, outs, ins, eps, stretches,
    block_n: gl.constexpr, block_t: gl.constexpr, block_k: gl.constexpr, stages: gl.constexpr, split: gl.constexpr,
    room: gl.constexpr, gated: gl.constexpr, kind: gl.constexpr, hands_on: gl.constexpr,
    overlapped: gl.constexpr, warps: gl.constexpr,
):  # fmt: skip
    """A tile of block_n outputs of all tokens, or one of `split` stretches of its inputs, block_k of them a step.

    x, weight: descriptors of [T, K] and [N, K], or [2 N, K] for gate and up, whose outputs are gated by silu
    squares, norm, scaled, squares_out, scratch, counters: as in linear_dot.py
    stages: steps on their way, of which all weights are asked for before the wait
    room: for the stretches whose sums of squares are in `squares`, where x is scaled by the norm's weights, else 0
    """
    if overlapped:
        let_next_start()
    tile, part = gl.program_id(0), gl.program_id(1)
    first = tile * block_n
    of_all = (ins + block_k - 1) // block_k
    steps = (of_all + split - 1) // split
    begin = part * steps
    steps = gl.minimum(steps, of_all - begin)
    many: gl.constexpr = 1 + gated
    places = gl.allocate_shared_memory(weight.dtype, [stages * many, block_n, block_k], weight.layout)
    inputs = gl.allocate_shared_memory(x.dtype, [stages, block_t, block_k], x.layout)
    arrived = gl.allocate_shared_memory(gl.int64, [stages, 1], mbarrier.MBarrierLayout())
    size: gl.constexpr = (many * block_n + block_t) * block_k * 2
    fill(weight, first, outs, begin, steps, arrived, places, size, stages, block_k, gated)
    if overlapped:
        wait()
    for i in gl.static_range(stages):
        k = (begin + i) * block_k
        tma.async_copy_global_to_shared(x, [0, k], arrived.index(i), inputs.index(i), pred=i < steps)

    layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [warps, 1], [16, block_t, 16])
    wide: gl.constexpr = gl.BlockedLayout([8, 1], [block_n // 8, 256 // block_n], [1, warps], [0, 1])
    of_rows: gl.constexpr = gl.SliceLayout(1, wide)
    of_tokens: gl.constexpr = gl.SliceLayout(0, wide)
    t = gl.arange(0, block_t, layout=of_tokens)
    total = gl.full([block_t], 0.0, gl.float32, layout=of_tokens)
    if room:
        by: gl.constexpr = gl.BlockedLayout([1, 1], [1, 32], [warps, 1], [1, 0])
        stretch = gl.arange(0, room, layout=gl.SliceLayout(1, by))
        token = gl.arange(0, block_t, layout=gl.SliceLayout(0, by))
        given = squares + stretch[:, None] * block_t + token[None, :]
        pieces = gl.load(given, mask=(stretch < stretches)[:, None], other=0.0)
        total = gl.convert_layout(gl.sum(pieces, axis=0), of_tokens)

    acc = warpgroup_mma_init(gl.full([block_n, block_t], 0.0, gl.float32, layout=layout))
    up = warpgroup_mma_init(gl.full([block_n, block_t], 0.0, gl.float32, layout=layout))
    stage = 0
    phase = 0
    for step in range(steps):
        mbarrier.wait(arrived.index(stage), phase)
        if gated:
            acc, up = warpgroup_mma_wait(0, deps=(acc, up))
        else:
            acc = warpgroup_mma_wait(0, deps=(acc,))
        b = inputs.index(stage).permute((1, 0))
        acc = warpgroup_mma(places.index(stage * many), b, acc, is_async=True)
        if gated:
            up = warpgroup_mma(places.index(stage * many + 1), b, up, is_async=True)
        # What the step before has read may be written over: it was waited for, and the compiler has all warps meet before a copy into what they read.
        free = gl.where(stage == 0, stages - 1, stage - 1)
        coming = step - 1 + stages
        wanted = (step > 0) & (coming < steps)
        k = (begin + coming) * block_k
        mbarrier.expect(arrived.index(free), size, pred=wanted)
        ask_weights(weight, first, outs, k, arrived.index(free), places, free * many, gated, wanted)
        tma.async_copy_global_to_shared(x, [0, k], arrived.index(free), inputs.index(free), pred=wanted)
        stage += 1
        if stage == stages:
            stage = 0
            phase ^= 1
    if gated:
        acc, up = warpgroup_mma_wait(0, deps=(acc, up))
    else:
        acc = warpgroup_mma_wait(0, deps=(acc,))

    last = True
    if split > 1:
        acc, last = of_all_parts(acc, scratch, counters, tile, part, split, layout)
    if last:
        n = first + gl.arange(0, block_n, layout=of_rows)
        y = gl.convert_layout(acc, wide)
        mask = (n < outs)[:, None] & (t < tokens)[None, :]
        at = t[None, :] * outs + n[:, None]
        if room:
            scale = gl.rsqrt(total / ins + eps)[None, :]
            y = y * scale
        if gated:
            z = gl.convert_layout(up, wide)
            if room:
                z = z * scale
            y = y / (1.0 + gl.exp(-y)) * z
        y = with_extra(y, extra, n, outs, at, mask, kind)
        few = y.to(out.dtype.element_ty)
        gl.store(out + at, few, mask=mask)
        if hands_on:
            rounded = gl.where(mask, few.to(gl.float32), 0.0)
            factor = gl.load(norm + n, mask=n < outs, other=0.0).to(gl.float32)[:, None]
            gl.store(scaled + at, (rounded * factor).to(out.dtype.element_ty), mask=mask)
            gl.store(squares_out + tile * block_t + t, gl.sum(rounded * rounded, axis=0))
