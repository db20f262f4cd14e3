"""Linears of one or two tokens, multiplied in registers: the tensor cores would have nothing to do, and the norm can be folded in."""

# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from specbatch.engine.gpu.kernels.linear_ends import write


@triton.jit
def fma(
    x, norm, weight, extra, out, outs, ins, eps,
    block_n: tl.constexpr, block_k: tl.constexpr, count: tl.constexpr,
    normed: tl.constexpr, gated: tl.constexpr, kind: tl.constexpr,
    even_n: tl.constexpr, even_k: tl.constexpr, overlapped: tl.constexpr,
):  # fmt: skip
    """A program's block_n outputs of `count` tokens, over all of K; see linear.py."""
    first = tl.program_id(0) * block_n
    row = tl.arange(0, block_n)
    n = first + row
    k = tl.arange(0, block_k)
    if not even_n:
        row = tl.minimum(n, outs - 1) - first
    rows = weight + first.to(tl.int64) * ins
    ups = rows + tl.cast(outs, tl.int64) * ins
    weights = row[:, None] * ins + k[None, :]
    # One tile ahead of the sums, in registers; the first one before the kernel before this has ended.
    a = tl.load(rows + weights, mask=k[None, :] < ins, other=0.0, eviction_policy="evict_first")
    c = a
    if gated:
        c = tl.load(ups + weights, mask=k[None, :] < ins, other=0.0, eviction_policy="evict_first")
    if overlapped:
        tl.extra.cuda.gdc_wait()

    acc = tl.full((block_n, block_k), 0.0, tl.float32)
    acc_up, other, other_up = acc, acc, acc
    squares = tl.full((block_k,), 0.0, tl.float32)
    other_squares = squares
    for offset in tl.range(0, ins, block_k):
        left = ins - offset
        after = left - block_k
        if even_k:
            a_next = tl.load(
                rows + weights + offset + block_k, mask=after > 0, other=0.0, eviction_policy="evict_first"
            )
        else:
            a_next = tl.load(
                rows + weights + offset + block_k, mask=k[None, :] < after, other=0.0, eviction_policy="evict_first"
            )
        c_next = a_next
        if gated:
            if even_k:
                c_next = tl.load(
                    ups + weights + offset + block_k, mask=after > 0, other=0.0, eviction_policy="evict_first"
                )
            else:
                c_next = tl.load(
                    ups + weights + offset + block_k, mask=k[None, :] < after, other=0.0, eviction_policy="evict_first"
                )
        factor = 1.0
        if normed:
            factor = _row(norm + offset, k, left, even_k).to(tl.float32)
        wide_a, wide_c = a.to(tl.float32), c.to(tl.float32)
        b = _row(x + offset, k, left, even_k)
        wide = b.to(tl.float32)
        if normed:
            squares += wide * wide
            wide = (wide * factor).to(b.dtype).to(tl.float32)
        acc += wide_a * wide[None, :]
        if gated:
            acc_up += wide_c * wide[None, :]
        if count == 2:
            b = _row(x + ins + offset, k, left, even_k)
            wide = b.to(tl.float32)
            if normed:
                other_squares += wide * wide
                wide = (wide * factor).to(b.dtype).to(tl.float32)
            other += wide_a * wide[None, :]
            if gated:
                other_up += wide_c * wide[None, :]
        a, c = a_next, c_next

    if overlapped:
        tl.extra.cuda.gdc_launch_dependents()
    write(
        tl.sum(acc, axis=1)[:, None], tl.sum(acc_up, axis=1)[:, None], tl.sum(squares, axis=0),
        ins, extra, out, n, tl.arange(0, 1), count, outs, eps, normed, gated, kind,
    )  # fmt: skip
    if count == 2:
        write(
            tl.sum(other, axis=1)[:, None], tl.sum(other_up, axis=1)[:, None], tl.sum(other_squares, axis=0),
            ins, extra, out, n, tl.arange(0, 1) + 1, count, outs, eps, normed, gated, kind,
        )  # fmt: skip


@triton.jit
def _row(start, k, left, even_k: tl.constexpr):
    if even_k:
        values = tl.load(start + k, eviction_policy="evict_last")
    else:
        values = tl.load(start + k, mask=k < left, other=0.0, eviction_policy="evict_last")
    return values
