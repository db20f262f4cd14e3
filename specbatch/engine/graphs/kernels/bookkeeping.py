"""What a round does beside the models: finding the next tokens, keeping drafts, moving rows on. A kernel each, of a program a row."""

# ruff: noqa: N803 - what a Triton kernel takes has no Python types, and its constants are capitals
# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from specbatch.engine.graphs.kernels.overlap import overlap


def next_tokens(
    history: Tensor, lengths: Tensor, rows: Tensor, n: int, back: int, drafted: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """TorchOps.next_tokens."""
    count, device = len(rows), history.device
    first = torch.empty(count, dtype=torch.int64, device=device)
    every = torch.empty(3, count * n, dtype=torch.int64, device=device)
    _next_tokens[(count,)](
        history, lengths, rows, lengths if drafted is None else drafted, first, every, history.stride(0), count * n, n, back,
        DRAFTED=drafted is not None, WIDTH=triton.next_power_of_2(n), num_warps=1, **overlap(device),
    )  # fmt: skip
    return every[0], first, every[1], every[2]


def keep_drafts(
    history: Tensor, slots: Tensor, positions: Tensor, drafts: Tensor, drafted: Tensor, *, anew: bool
) -> None:
    """TorchOps.keep_drafts."""
    n = len(positions) // len(slots)
    _keep_drafts[(len(slots),)](
        history, slots, positions, drafts, drafted, history.stride(0), n, ANEW=anew, num_warps=1, **overlap(history.device)
    )  # fmt: skip


def commit_coupled(
    history: Tensor,
    lengths: Tensor,
    ends: Tensor,
    slots: Tensor,
    tokens: Tensor,
    finite: Tensor,
    num_drafted: Tensor | None,
    outcome: Tensor,
) -> None:
    """TorchOps.commit_coupled."""
    rows, n = tokens.shape
    _commit_coupled[(rows,)](
        history, lengths, ends, slots, tokens, finite, tokens if num_drafted is None else num_drafted, outcome,
        history.stride(0), outcome.stride(0), n, COUNTED=num_drafted is not None, WIDTH=triton.next_power_of_2(n),
        num_warps=1, **overlap(history.device),
    )  # fmt: skip


def embed(tokens: Tensor, weight: Tensor) -> Tensor:
    """TorchOps.embed."""
    width = weight.shape[1]
    out = torch.empty((len(tokens), width), dtype=weight.dtype, device=weight.device)
    block = min(2048, triton.next_power_of_2(width))
    _embed[(len(tokens), triton.cdiv(width, block))](
        tokens, weight, out, ROWS=len(weight), WIDTH=width, BLOCK=block, num_warps=4, **overlap(weight.device)
    )
    return out


@triton.jit(do_not_specialize=["total", "n", "back", "stride"])
def _next_tokens(
    history, lengths, rows, drafted, first, every, stride, total, n, back,
    DRAFTED: tl.constexpr, WIDTH: tl.constexpr, overlapped: tl.constexpr,
):  # fmt: skip
    if overlapped:
        tl.extra.cuda.gdc_wait()
    row, i = tl.program_id(0), tl.arange(0, WIDTH)
    slot = tl.load(rows + row)
    start = tl.load(lengths + slot) - back
    if DRAFTED:
        start += tl.load(drafted)
    position = start + i
    token = tl.load(history + slot * stride + tl.maximum(position, 0), mask=i < n, other=0)
    if overlapped:
        tl.extra.cuda.gdc_launch_dependents()
    at = every + row * n + i
    tl.store(first + row, start)
    tl.store(at, token, mask=i < n)
    tl.store(at + total, slot + i * 0, mask=i < n)
    tl.store(at + 2 * total, position, mask=i < n)


@triton.jit(do_not_specialize=["n", "stride"])
def _keep_drafts(history, slots, positions, drafts, drafted, stride, n, ANEW: tl.constexpr, overlapped: tl.constexpr):
    if overlapped:
        tl.extra.cuda.gdc_wait()
    row = tl.program_id(0)
    position = tl.load(positions + row * n + n - 1)
    tl.store(history + tl.load(slots + row) * stride + position + 1, tl.load(drafts + row))
    if row == 0:
        if ANEW:
            tl.store(drafted, 1)
        else:
            tl.store(drafted, tl.load(drafted) + 1)


@triton.jit(do_not_specialize=["n", "stride", "outcome_stride"])
def _commit_coupled(
    history, lengths, ends, slots, tokens, finite, num_drafted, outcome, stride, outcome_stride, n,
    COUNTED: tl.constexpr, WIDTH: tl.constexpr, overlapped: tl.constexpr,
):  # fmt: skip
    if overlapped:
        tl.extra.cuda.gdc_wait()
    row, i = tl.program_id(0), tl.arange(0, WIDTH)
    slot = tl.load(slots + row)
    last = tl.load(lengths + slot)
    drafted = n - 1
    if COUNTED:
        drafted = tl.minimum(tl.load(num_drafted + row), drafted)
    line = history + slot * stride + last + 1
    token = tl.load(tokens + row * n + i, mask=i < n, other=0)
    draft = tl.load(line + i, mask=i < n - 1, other=0)
    fell = tl.where((i < drafted) & (draft == token), WIDTH, i)
    accepted = tl.min(fell, 0)  # the first position whose draft did not stand
    is_finite = tl.load(finite + row * n + i, mask=i < n, other=1).to(tl.int32)
    sound = tl.min(tl.where(is_finite > 0, n, i), 0)
    moved = tl.minimum(accepted + 1, tl.load(ends + slot) - last)
    tl.debug_barrier()  # all drafts are read before tokens take their places
    tl.store(line + i, token, mask=i < n)
    tl.store(lengths + slot, last + moved)
    out = outcome + row * outcome_stride
    tl.store(out, accepted.to(tl.int64))
    tl.store(out + 1, (drafted + accepted * 0).to(tl.int64))
    tl.store(out + 2, sound.to(tl.int64))
    tl.store(out + 3 + i, token, mask=i < n)


@triton.jit
def _embed(tokens, weight, out, ROWS: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr, overlapped: tl.constexpr):
    if overlapped:
        tl.extra.cuda.gdc_wait()
    row = tl.program_id(0)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    token = tl.minimum(tl.load(tokens + row), ROWS - 1)
    value = tl.load(weight + token * WIDTH + column, mask=column < WIDTH, other=0.0)
    if overlapped:
        tl.extra.cuda.gdc_launch_dependents()
    tl.store(out + row.to(tl.int64) * WIDTH + column, value, mask=column < WIDTH)
