"""Linears of FP8 weights and inputs on Hopper's tensor cores, in Gluon: as linear_wgmma.py, which says why, in steps of one or two groups of inputs.

Products of a group are summed by the tensor cores from zero, and added in float32 times both scales: see linears/w8a8.py.
"""

# ruff: noqa: RUF005 - Triton adds tuples, and does not unpack them
# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator, assignment"

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import mbarrier, tma, warpgroup_mma, warpgroup_mma_wait

from specbatch.engine.graphs.kernels.linears.linear_wgmma import (
    ask_weights,
    barrier,
    fill,
    let_next_start,
    of_all_parts,
    wait,
    with_extra,
)
from specbatch.engine.graphs.kernels.linears.w8a8_rounding import divided, scale_of

_GROUP = gl.constexpr(128)


@gluon.jit(do_not_specialize=["tokens", "x_stride"])
def on_wgmma_fp8(
    x, x_scales, weight, scales, extra, out, rounded, rounded_scales, scratch, counters, tokens, outs, ins, columns, rows, x_stride,
    block_n: gl.constexpr, block_t: gl.constexpr, of_step: gl.constexpr, stages: gl.constexpr, split: gl.constexpr, room: gl.constexpr,
    by_group: gl.constexpr, gated: gl.constexpr, rounds: gl.constexpr, kind: gl.constexpr, early: gl.constexpr,
    overlapped: gl.constexpr, warps: gl.constexpr,
):  # fmt: skip
    """A tile of block_n outputs of all tokens, or one of `split` stretches of its inputs, `of_step` groups of them a step.

    x, weight: descriptors of [T, K] and [N, K], or [2 N, K] for gate and up, whose outputs are gated by silu
    x_scales, scales, rounded, rounded_scales, scratch, counters: as in w8a8.py; a tile's outputs share scales where `by_group`,
        else there is one of each output and of each token
    stages: steps on their way, of which all weights are asked for before the wait
    room: for the scales of a program's groups
    early: the next kernel may start at once
    """
    if overlapped and early:
        let_next_start()
    tile, part = gl.program_id(0), gl.program_id(1)
    first = tile * block_n
    width: gl.constexpr = of_step * _GROUP
    of_all = (ins + width - 1) // width
    steps = (of_all + split - 1) // split
    begin = part * steps
    steps = gl.minimum(steps, of_all - begin)
    many: gl.constexpr = 1 + gated
    places = gl.allocate_shared_memory(weight.dtype, [stages * many, block_n, width], weight.layout)
    inputs = gl.allocate_shared_memory(x.dtype, [stages, block_t, width], x.layout)
    arrived = gl.allocate_shared_memory(gl.int64, [stages, 1], mbarrier.MBarrierLayout())
    size: gl.constexpr = (many * block_n + block_t) * width
    fill(weight, first, outs, begin, steps, arrived, places, size, stages, width, gated)

    layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [warps, 1], [16, block_t, 32])
    of_products: gl.constexpr = gl.SliceLayout(0, layout)
    by: gl.constexpr = gl.BlockedLayout([1, 1], [32 // min(block_t, 32), min(block_t, 32)], [warps, 1], [1, 0])
    group = gl.arange(0, room, layout=gl.SliceLayout(1, by))
    token = gl.arange(0, block_t, layout=gl.SliceLayout(0, by))
    known = (group < steps * of_step) & (begin * of_step + group < (ins + _GROUP - 1) // _GROUP)
    group += begin * of_step
    own = gl.full([room], 1.0, gl.float32, layout=gl.SliceLayout(1, by))
    own_up = own
    if by_group:
        own = gl.load(scales + (first // rows) * columns + group, mask=known, other=0.0)
        if gated:
            own_up = gl.load(scales + ((first + outs) // rows) * columns + group, mask=known, other=0.0)
    if overlapped:
        wait()
    theirs = gl.full([room, block_t], 0.0, gl.float32, layout=by)
    if by_group:
        both = known[:, None] & (token < tokens)[None, :]
        theirs = gl.load(x_scales + group[:, None] * x_stride + token[None, :], mask=both, other=0.0)
    for i in gl.static_range(stages):
        k = (begin + i) * width
        tma.async_copy_global_to_shared(x, [0, k], arrived.index(i), inputs.index(i), pred=i < steps)
    # The scales of all steps lie in shared memory before the first: from the cache they take as long as a step, or two.
    even: gl.constexpr = gl.SwizzledSharedLayout(1, 1, 1, [1, 0])
    line: gl.constexpr = gl.SwizzledSharedLayout(1, 1, 1, [0])
    factors = gl.allocate_shared_memory(gl.float32, [many, room, block_t] if by_group else [many, 1, 1], even)
    if by_group:
        factors.index(0).store(theirs * own[:, None])
        if gated:
            factors.index(1).store(theirs * own_up[:, None])
        barrier()
    of_groups = factors._reinterpret(gl.float32, [many * room, block_t] if by_group else [many, 1], line)  # noqa: SLF001 - Gluon has no other name for it
    # A step's groups lie one behind the other: a row of theirs is longer than what is swizzled.
    weights_of = places._reinterpret(weight.dtype, [stages * many * of_step, block_n, _GROUP], weight.layout)  # noqa: SLF001
    inputs_of = inputs._reinterpret(x.dtype, [stages * of_step, block_t, _GROUP], x.layout)  # noqa: SLF001

    acc = gl.full([block_n, block_t], 0.0, gl.float32, layout=layout)
    up = gl.full([block_n, block_t], 0.0, gl.float32, layout=layout)
    stage = 0
    phase = 0
    for step in range(steps):
        mbarrier.wait(arrived.index(stage), phase)
        zero = gl.full([block_n, block_t], 0.0, gl.float32, layout=layout)
        products = ()
        for i in gl.static_range(of_step):
            b = inputs_of.index(stage * of_step + i).permute((1, 0))
            for j in gl.static_range(many):
                a = weights_of.index((stage * many + j) * of_step + i)
                products = products + (warpgroup_mma(a, b, zero, use_acc=False, is_async=True),)
        products = warpgroup_mma_wait(0, deps=products)
        if of_step * many == 1:
            products = (products,)
        barrier()  # all warps have read what is written over now
        coming = step + stages
        wanted = coming < steps
        k = (begin + coming) * width
        mbarrier.expect(arrived.index(stage), size, pred=wanted)
        ask_weights(weight, first, outs, k, arrived.index(stage), places, stage * many, gated, wanted)
        tma.async_copy_global_to_shared(x, [0, k], arrived.index(stage), inputs.index(stage), pred=wanted)
        for i in gl.static_range(of_step):
            sums = products[i * many]
            sums_up = products[i * many + many - 1]
            if by_group:
                sums = sums * of_groups.index(step * of_step + i).load(of_products)[None, :]
                if gated:
                    sums_up = sums_up * of_groups.index(room + step * of_step + i).load(of_products)[None, :]
            acc += sums
            if gated:
                up += sums_up
        stage += 1
        if stage == stages:
            stage = 0
            phase ^= 1

    if overlapped and not early:
        let_next_start()
    last = True
    if split > 1:
        acc, last = of_all_parts(acc, scratch, counters, tile, part, split, layout)
    if last:
        wide: gl.constexpr = gl.BlockedLayout([8, 1], [block_n // 8, 256 // block_n], [1, warps], [0, 1])
        n = first + gl.arange(0, block_n, layout=gl.SliceLayout(1, wide))
        t = gl.arange(0, block_t, layout=gl.SliceLayout(0, wide))
        y = gl.convert_layout(acc, wide)
        z = y
        if gated:
            z = gl.convert_layout(up, wide)
        mask = (n < outs)[:, None] & (t < tokens)[None, :]
        at = t[None, :] * outs + n[:, None]
        if not by_group:
            given = gl.load(x_scales + t, mask=t < tokens, other=0.0)[None, :]
            y = y * given * gl.load(scales + n // rows, mask=n < outs, other=0.0)[:, None]
            if gated:
                z = z * given * gl.load(scales + (n + outs) // rows, mask=n < outs, other=0.0)[:, None]
        if gated:
            y = y / (1.0 + gl.exp(-y)) * z
        y = with_extra(y, extra, n, outs, at, mask, kind)
        few = y.to(out.dtype.element_ty)
        gl.store(out + at, few, mask=mask)
        if rounds:
            y = few.to(gl.float32)
            scale = scale_of(gl.max(gl.abs(y), axis=0))
            few = divided(y, scale[None, :], (1.0 / scale)[None, :]).to(gl.float8e4nv)
            gl.store(rounded + at, few, mask=mask)
            gl.store(rounded_scales + tile * x_stride + t, scale, mask=t < tokens)
