"""Linears of few tokens (T <= 64): reading the weights once is all that takes time, so everything else is folded into it.

Two kernels. `_dot` feeds tiles of weights to the tensor cores as the left operand, the tokens as the right one, padded to
8, 16, 32 or 64; `fma` (linear_fma.py) is for one or two tokens. A program owns block_n outputs over all of K, or, where outputs are too
few to occupy the GPU, one of `split` stretches of K: the last of a tile's programs to finish sums their partial results in the
order of K, so that no result depends on who was first.

A norm in between two linears would be a kernel of its own, which has little to do but costs a boundary. For one token `fma` computes it
from its inputs. For more, the linear before hands on what it writes times the norm's weights, and sums of squares of stretches of it:
the next one multiplies that, and its sums by the scale (`ahead`).

Names of sizes: T tokens, N outputs, K inputs; weights are [N, K], or [2 N, K] for gate and up.
"""

# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from specbatch.engine.gpu.kernels.fitting import with_stages
from specbatch.engine.gpu.kernels.linear_configs import DOT_TOKENS, Config, configured
from specbatch.engine.gpu.kernels.linear_ends import LINE, fetch, hand_on, write
from specbatch.engine.gpu.kernels.linear_fma import fma
from specbatch.engine.gpu.kernels.overlap import overlap

NOTHING, BIAS, RESIDUAL = 0, 1, 2  # what is added to the products
SCRATCH = 1 << 21  # floats of partial results
TILES = 1 << 14  # counters
_ROOM = 256  # stretches of a token's hidden states, at least: models share what is compiled
_FETCHED = 4 << 20  # bytes of the next weights: what memory gives between two kernels; more pushes out what is needed


@triton.jit(do_not_specialize=["tokens", "lines", "stretches"])
def _dot(
    x, squares, weight, extra, out, norm, scaled, squares_out, following, scratch, counters,
    tokens, outs, ins, eps, stretches, lines,
    block_n: tl.constexpr, block_k: tl.constexpr, block_t: tl.constexpr, split: tl.constexpr,
    room: tl.constexpr, gated: tl.constexpr, kind: tl.constexpr, hands_on: tl.constexpr, line: tl.constexpr,
    even_n: tl.constexpr, even_k: tl.constexpr, overlapped: tl.constexpr,
):  # fmt: skip
    """room: for the stretches whose sums of squares are in `squares`, where x is scaled by the norm's weights, else 0

    line: see fetch, or 0
    """
    tile, part = tl.program_id(0), tl.program_id(1)
    first = tile * block_n
    row = tl.arange(0, block_n)
    n = first + row
    t = tl.arange(0, block_t)
    k = tl.arange(0, block_k)
    # Rows beyond the last read the last again: cheaper than a mask, and they are not written.
    if not even_n:
        row = tl.minimum(n, outs - 1) - first
    steps = (ins + block_k * split - 1) // (block_k * split)
    begin = part * steps * block_k
    rows = weight + first.to(tl.int64) * ins + begin
    ups = rows + tl.cast(outs, tl.int64) * ins
    if overlapped:
        tl.extra.cuda.gdc_wait()

    total = tl.full((1, block_t), 0.0, tl.float32)
    if room:
        i = tl.arange(0, room)
        pieces = tl.load(squares + i[:, None] * block_t + t[None, :], mask=(i < stretches)[:, None], other=0.0)
    weights = row[:, None] * ins + k[None, :]
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
            left = ins - begin - offset
            a = tl.load(rows + weights + offset, mask=k[None, :] < left, other=0.0, eviction_policy="evict_first")
            b = tl.load(x + inputs + offset, mask=wanted & (k[:, None] < left), other=0.0, eviction_policy="evict_last")
        acc = tl.dot(a, b, acc, input_precision="ieee")
        if gated:
            if even_k:
                c = tl.load(ups + weights + offset, eviction_policy="evict_first")
            else:
                c = tl.load(ups + weights + offset, mask=k[None, :] < left, other=0.0, eviction_policy="evict_first")
            acc_up = tl.dot(c, b, acc_up, input_precision="ieee")

    if line:
        fetch(following, lines, tile * split + part, line)
    if overlapped:
        tl.extra.cuda.gdc_launch_dependents()
    last = True
    if split > 1:
        cell = tl.arange(0, block_n)[:, None] * block_t + t[None, :]
        mine = scratch + tile * (split * block_n * block_t)
        tl.store(mine + part * (block_n * block_t) + cell, acc)
        tl.debug_barrier()  # all threads' stores come before the count, which releases them
        last = tl.atomic_add(counters + tile, 1, sem="acq_rel") == split - 1
        if last:
            acc = tl.full((block_n, block_t), 0.0, tl.float32)
            for i in tl.static_range(split):
                acc += tl.load(mine + i * (block_n * block_t) + cell, cache_modifier=".cg")
            tl.store(counters + tile, 0)  # for the next launch
    if last:
        if room:
            total = tl.sum(pieces, axis=0)[None, :]
        y = write(acc, acc_up, total, ins, extra, out, n, t, tokens, outs, eps, room > 0, gated, kind)
        if hands_on:
            hand_on(y, out, norm, scaled, squares_out, tile, n, t, tokens, outs, block_t)


def linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    following: Tensor | None = None,
    config: Config | None = None,
) -> Tensor:
    """x @ weight.T + bias.  # [T, K], [N, K] -> [T, N]"""
    return _run(x, weight, bias, BIAS, following=following, config=config)[0]


def gated(x: Tensor, gate_up: Tensor, *, following: Tensor | None = None, config: Config | None = None) -> Tensor:
    """silu(gate) * up, rounded once.  # [T, K], [2 N: gate's rows, then up's, K] -> [T, N]"""
    return _run(x, gate_up, gated=True, following=following, config=config)[0]


def norm_linear(
    x: Tensor, norm: Tensor, eps: float, weight: Tensor, bias: Tensor | None = None, *, config: Config | None = None
) -> Tensor:
    """linear(rms_norm(x)) of one or two tokens: x * norm is rounded, its scale is applied to the sums.  # [T, K], [N, K] -> [T, N]"""
    return _run(x, weight, bias, BIAS, norm=norm, eps=eps, config=config)[0]


def norm_gated(x: Tensor, norm: Tensor, eps: float, gate_up: Tensor, *, config: Config | None = None) -> Tensor:
    """gated(rms_norm(x)) of one or two tokens, as in norm_linear.  # [T, K], [2 N, K] -> [T, N]"""
    return _run(x, gate_up, gated=True, norm=norm, eps=eps, config=config)[0]


def linear_add(x: Tensor, weight: Tensor, residual: Tensor, *, config: Config | None = None) -> Tensor:
    """residual + x @ weight.T, rounded once.  # [T, K], [N, K], [T, N] -> [T, N]"""
    return _run(x, weight, residual, RESIDUAL, config=config)[0]


def linear_add_ahead(
    x: Tensor, weight: Tensor, residual: Tensor, norm: Tensor,
    *, following: Tensor | None = None, config: Config | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """linear_add, and what the linear after the norm of it needs.

    Args:
        x: [T, K]
        weight: [N, K]
        residual: [T, N]
        norm: weights of the norm that comes next  # [N]
        following: weights that are read next.
        config: instead of the table's.

    Returns:
        the sum [T, N]; the sum times `norm` [T, N]; sums of squares of its stretches, float32 [stretches, T or more]
    """
    return _run(x, weight, residual, RESIDUAL, next_norm=norm, following=following, config=config)


def ahead_linear(
    scaled: Tensor, squares: Tensor, eps: float, weight: Tensor, bias: Tensor | None = None,
    *, following: Tensor | None = None, config: Config | None = None,
) -> Tensor:  # fmt: skip
    """norm_linear of what linear_add_ahead gave.  # [T, K], float32 [stretches, T or more], [N, K] -> [T, N]"""
    return _run(scaled, weight, bias, BIAS, squares=squares, eps=eps, following=following, config=config)[0]


def ahead_gated(
    scaled: Tensor, squares: Tensor, eps: float, gate_up: Tensor,
    *, following: Tensor | None = None, config: Config | None = None,
) -> Tensor:  # fmt: skip
    """norm_gated of what linear_add_ahead gave.  # [T, K], float32 [stretches, T or more], [2 N, K] -> [T, N]"""
    return _run(scaled, gate_up, gated=True, squares=squares, eps=eps, following=following, config=config)[0]


def _run(
    x: Tensor, weight: Tensor, extra: Tensor | None = None, kind: int = NOTHING, *, gated: bool = False,
    norm: Tensor | None = None, squares: Tensor | None = None, eps: float = 0.0, next_norm: Tensor | None = None,
    following: Tensor | None = None, config: Config | None = None,
) -> tuple[Tensor, Any, Any]:  # fmt: skip
    tokens, ins = x.shape
    outs = weight.shape[0] // 2 if gated else weight.shape[0]
    ahead = squares is not None or next_norm is not None
    use = config or configured(tokens, outs, ins, x.element_size(), gated=gated, ahead=ahead)
    out = x.new_empty(tokens, outs)
    flags: dict[str, Any] = {
        "block_n": use.block_n,
        "block_k": use.block_k,
        "gated": gated,
        "kind": NOTHING if extra is None else kind,
        "even_n": outs % use.block_n == 0,
        "even_k": ins % (use.block_k * use.split) == 0,
        "num_warps": use.warps,
        **overlap(x.device),
    }
    tiles = triton.cdiv(outs, use.block_n)
    if use.fma:
        assert not ahead
        fma[(tiles,)](x, norm, weight, extra, out, outs, ins, eps, count=tokens, normed=norm is not None, **flags)
        return out, None, None
    block_t = next(size for size in DOT_TOKENS if tokens <= size)
    assert norm is None, "the norm is folded in for one or two tokens alone"
    assert use.split == 1 or not gated, "gates need all of K"
    assert use.split == 1 or (tiles <= TILES and tiles * use.split * use.block_n * block_t <= SCRATCH)
    partial, counters = _scratch(x.device) if use.split > 1 else (None, None)
    scaled = squares_out = None
    if next_norm is not None:
        scaled = torch.empty_like(out)
        squares_out = torch.empty(tiles, block_t, dtype=torch.float32, device=x.device)
    stretches = 0 if squares is None else len(squares)
    following, fetched = (weight, 0) if following is None else (following, min(_FETCHED, following.nbytes))

    def run(stages: int) -> None:
        _dot[(tiles, use.split)](
            x, squares, weight, extra, out, next_norm, scaled, squares_out, following, partial, counters,
            tokens, outs, ins, eps, stretches, fetched // LINE // (tiles * use.split),
            block_t=block_t, split=use.split, room=max(_ROOM, triton.next_power_of_2(stretches)) if stretches else 0,
            hands_on=next_norm is not None, line=LINE // x.element_size() if flags["overlapped"] else 0,
            num_stages=stages, **flags,
        )  # fmt: skip

    with_stages(("linear", use, block_t, gated, ahead, x.dtype, x.device), use.stages, run)
    return out, scaled, squares_out


_scratches: dict[torch.device, tuple[Tensor, Tensor]] = {}


def _scratch(device: torch.device) -> tuple[Tensor, Tensor]:
    """Partial results, and zeroed counters that every launch leaves at zero: captured graphs keep their addresses, so they stay."""
    if device not in _scratches:
        assert device.type == "cpu" or not torch.cuda.is_current_stream_capturing(), (
            "run a graph's kernels once before capture"
        )
        _scratches[device] = (
            torch.empty(SCRATCH, dtype=torch.float32, device=device),
            torch.zeros(TILES, dtype=torch.int32, device=device),
        )
    return _scratches[device]
