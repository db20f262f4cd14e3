"""Linears of one or two tokens whose weights and inputs are FP8, multiplied in registers; see linears/w8a8.py."""

# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from specbatch.engine.graphs.kernels.linears.epilogue import write
from specbatch.engine.graphs.kernels.linears.w8a8 import GROUP


@triton.jit
def in_registers(
    x, x_scales, weight, scales, extra, out, outs, ins, columns, rows,
    block_n: tl.constexpr, block_k: tl.constexpr, tail: tl.constexpr, count: tl.constexpr,
    pieces: tl.constexpr, tail_pieces: tl.constexpr,
    by_group: tl.constexpr, x_by_group: tl.constexpr,
    gated: tl.constexpr, kind: tl.constexpr, even_n: tl.constexpr, even_k: tl.constexpr,
    early: tl.constexpr, activation: tl.constexpr, overlapped: tl.constexpr,
):  # fmt: skip
    """As fma of linear_fma.py: all weights of block_n outputs are asked for before the kernel ahead has ended.

    rows: outputs that share scales; those of a program do where `by_group`
    columns: scales of such outputs
    pieces, tail_pieces: groups of block_k and of tail
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
    at = scales + ((first + row) // rows) * columns
    at_ups = scales + ((first + row + outs) // rows) * columns
    of_groups = scales + (first // rows) * columns
    of_groups_up = scales + ((first + outs) // rows) * columns
    if overlapped:
        tl.extra.cuda.gdc_wait()

    token = tl.arange(0, 1)
    groups = (ins + GROUP - 1) // GROUP
    for i in tl.static_range(count):
        of_x = x_scales + i * groups
        start = x + i * ins
        y = _sums(a, start, k, of_x, of_groups, 0, ins, block_n, block_k, pieces, by_group, x_by_group, True)
        up = y
        if gated:
            up = _sums(c, start, k, of_x, of_groups_up, 0, ins, block_n, block_k, pieces, by_group, x_by_group, True)
        if tail:
            y += _sums(
                a_tail,
                start,
                k_tail,
                of_x,
                of_groups,
                pieces,
                ins,
                block_n,
                tail,
                tail_pieces,
                by_group,
                x_by_group,
                even_k,
            )
            if gated:
                up += _sums(c_tail, start, k_tail, of_x, of_groups_up, pieces, ins, block_n, tail, tail_pieces, by_group, x_by_group, even_k)  # fmt: skip
        if not by_group:
            y = y * tl.load(at)
            if gated:
                up = up * tl.load(at_ups)
        if not x_by_group:
            y = y * tl.load(x_scales + i)
            if gated:
                up = up * tl.load(x_scales + i)
        write(y[:, None], up[:, None], 0.0, 1.0, extra, out, n, token + i, count, outs, 0.0, False, gated, kind, activation)  # fmt: skip
    if overlapped and not early:
        tl.extra.cuda.gdc_launch_dependents()


@triton.jit
def _sums(
    a, start, k, x_scales, scales, first, ins,
    block_n: tl.constexpr, width: tl.constexpr, count: tl.constexpr,
    by_group: tl.constexpr, x_by_group: tl.constexpr, even: tl.constexpr,
):  # fmt: skip
    """A token's products with weights: summed by group, times the scales of both, and summed.  # [block_n, width] -> [block_n]

    Scales are of groups, not of inputs: a load for each input would take longer than the weights.
    """
    if even:
        b = tl.load(start + k, eviction_policy="evict_last").to(tl.float32)
    else:
        b = tl.load(start + k, mask=k < ins, other=0.0, eviction_policy="evict_last").to(tl.float32)
    products = a.to(tl.float32) * b[None, :]
    if by_group or x_by_group:
        sums = tl.sum(tl.reshape(products, (block_n, count, width // count)), axis=2)
        group = tl.minimum(first + tl.arange(0, count), (ins - 1) // GROUP)
        if x_by_group:
            sums = sums * tl.load(x_scales + group)[None, :]
        if by_group:
            sums = sums * tl.load(scales + group)[None, :]
        y = tl.sum(sums, axis=1)
    else:
        y = tl.sum(products, axis=1)
    return y


@triton.jit
def _bytes(starts, k, ins, even: tl.constexpr):
    if even:
        values = tl.load(starts + k[None, :], eviction_policy="evict_first")
    else:
        values = tl.load(starts + k[None, :], mask=k[None, :] < ins, other=0.0, eviction_policy="evict_first")
    return values
