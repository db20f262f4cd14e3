"""A token of each row of logits in one pass: the likeliest, or one drawn by Gumbel-max (an exponential race).

The noise is that of specbatch.engine.counter_rng, bit for bit up to its uniforms; its logarithms agree to float32's last bits,
so a GPU draws a CPU's tokens but where two of them tie that closely.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra import libdevice

from specbatch.engine.counter_rng import _GOLDEN, _MIX_1, _MIX_2
from specbatch.engine.graphs.kernels.overlap import overlap

_STEP = tl.constexpr(_GOLDEN % 2**64)
_FACTOR_1 = tl.constexpr(_MIX_1 % 2**64)
_FACTOR_2 = tl.constexpr(_MIX_2 % 2**64)


def sample(logits: Tensor, keys: Tensor | None, temperature: Tensor | None) -> tuple[Tensor, Tensor]:
    """Each position's token: the likeliest, or where temperature > 0 one drawn by Gumbel-max.

    Args:
        logits: [R, vocab]
        keys: from position_keys; None where temperature is  # int64 [R]
        temperature: of each position, 0 for greedy; None: all greedy  # float32 [R]

    Returns:
        tokens int64 [R], the lowest id among equals; whether all logits of a position are finite or -inf, and not all -inf  # bool [R]
    """
    tokens, finite, _ = sample_with_best(logits, keys, temperature)
    return tokens, finite


def sample_with_best(logits: Tensor, keys: Tensor | None, temperature: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """As sample; also the greatest logit of each position.  # float32 [R]"""
    count, vocab = logits.shape
    assert logits.stride(1) == 1
    tokens = torch.empty(count, dtype=torch.int64, device=logits.device)
    finite = torch.empty(count, dtype=torch.bool, device=logits.device)
    greatest = torch.empty(count, dtype=torch.float32, device=logits.device)
    # Few rows: as many programs as there are SMs. Many: fewer and longer ones.
    width = min(1024 if count <= 4 else 2048 if count <= 32 else 4096, triton.next_power_of_2(vocab))
    blocks = triton.cdiv(vocab, width)
    drawn = temperature is not None
    best = torch.empty((count, blocks), dtype=torch.float32, device=logits.device)
    top = torch.empty_like(best) if drawn else best
    where = torch.empty((count, blocks), dtype=torch.int32, device=logits.device)
    if count:
        _sample_blocks[(count, blocks)](
            logits,
            keys if drawn else logits,
            temperature if drawn else logits,
            best,
            top,
            where,
            logits.stride(0),
            vocab,
            blocks,
            drawn,
            triton.knobs.runtime.interpret,
            width,
            num_warps=max(1, min(4, width // 256)),
            **overlap(logits.device),
        )
        across = triton.next_power_of_2(blocks)
        _sample_rows[(count,)](
            best,
            top,
            where,
            tokens,
            finite,
            greatest,
            vocab,
            blocks,
            across,
            num_warps=1 if across <= 64 else 4,
            **overlap(logits.device),
        )
    return tokens, finite, greatest


def position_keys(row_keys: Tensor, positions: Tensor, purpose: int) -> Tensor:
    """counter_rng.position_keys in one kernel.  # int64 [B], int64 [B, n] -> int64 [B, n]"""
    rows, n = positions.shape
    out = torch.empty((rows, n), dtype=torch.int64, device=positions.device)
    if out.numel():
        width = triton.next_power_of_2(n)
        _position_keys[(rows,)](row_keys, positions.contiguous(), out, n, purpose, width, num_warps=1)
    return out


@triton.jit
def _mix(z):
    """SplitMix64's finaliser, as in counter_rng.  # uint64 -> uint64"""
    z = (z ^ (z >> 30)) * _FACTOR_1
    z = (z ^ (z >> 27)) * _FACTOR_2
    return z ^ (z >> 31)


@triton.jit(do_not_specialize=["n", "purpose"])
def _position_keys(row_keys, positions, out, n, purpose, width: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, width)
    at = row * n + column
    counter = (tl.load(positions + at, column < n, 0) + 1).to(tl.uint64, bitcast=True) * _STEP
    key = _mix((tl.load(row_keys + row) ^ purpose).to(tl.uint64, bitcast=True))
    tl.store(out + at, _mix(key + counter).to(tl.int64, bitcast=True), column < n)


@triton.jit
def _upper_bits(z):
    """The upper half of SplitMix64's finaliser, as in counter_rng; unsigned, so that >> brings in zeros.  # uint64 -> uint32"""
    z = (z ^ (z >> 30)) * _FACTOR_1
    z = (z ^ (z >> 27)) * _FACTOR_2
    upper = (z >> 32).to(tl.uint32)
    return upper ^ (upper >> 31)


@triton.jit
def _log(x, interpreted: tl.constexpr):
    """On a GPU of 2 instructions, wrong by at most 2e-7 between 0.5 and 2 and by 2e-7 of itself elsewhere."""
    if interpreted:
        return tl.log(x)
    return libdevice.fast_logf(x)


@triton.jit
def _exponential(key, tokens, interpreted: tl.constexpr):
    """counter_rng.exponentials.  # int64, int32 [n] -> float32 [n]"""
    counter = (tokens + 1).to(tl.uint64) * _STEP
    bits = _upper_bits(counter + key.to(tl.uint64, bitcast=True))
    unit = (bits.to(tl.float32) + 0.5) * 2.3283064365386963e-10  # 2**-32
    # -log1p(-unit). Below a half 1 - unit would lose the digits in which small draws differ: 2 artanh(unit / (2 - unit))
    # as a series instead, which is right to 2e-8 there. From a half on 1 - unit is exact; at 1 the draw is inf.
    s = unit / (2.0 - unit) if interpreted else libdevice.fast_dividef(unit, 2.0 - unit)
    t = s * s
    series = 1 / 3 + t * (1 / 5 + t * (1 / 7 + t * (1 / 9 + t * (1 / 11 + t * (1 / 13)))))
    return tl.where(unit < 0.5, 2.0 * (s + s * t * series), -_log(1.0 - unit, interpreted))


@triton.jit
def _sample_blocks(
    logits,
    keys,
    temperature,
    best,
    top,
    where,
    stride,
    vocab,
    blocks,
    drawn: tl.constexpr,
    interpreted: tl.constexpr,
    width: tl.constexpr,
    overlapped: tl.constexpr,
):
    """The winner of one row's next `width` tokens, and where it is drawn their greatest logit, NaN taken for inf."""
    if overlapped:
        tl.extra.cuda.gdc_wait()
    row, block = tl.program_id(0), tl.program_id(1)
    at = row * blocks + block
    tokens = block * width + tl.arange(0, width)
    score = tl.load(logits + row.to(tl.int64) * stride + tokens, tokens < vocab, -float("inf")).to(tl.float32)
    score = tl.where(score < float("inf"), score, float("inf"))
    if drawn:
        tl.store(top + at, tl.max(score, 0))
        heat = tl.load(temperature + row)
        if heat > 0:
            noise = _log(_exponential(tl.load(keys + row), tokens, interpreted), interpreted)
            score = score * (1.0 / heat) - noise
    # The greatest, then its lowest token: fewer instructions than carrying both through one reduction.
    value = tl.max(score, 0)
    tl.store(best + at, value)
    tl.store(where + at, tl.min(tl.where(score == value, tokens, vocab), 0))


@triton.jit
def _sample_rows(
    best, top, where, tokens, finite, greatest, vocab, blocks, width: tl.constexpr, overlapped: tl.constexpr
):
    """The winner of a row's winners."""
    if overlapped:
        tl.extra.cuda.gdc_wait()
    row = tl.program_id(0)
    block = tl.arange(0, width)
    mask = block < blocks
    score = tl.load(best + row * blocks + block, mask, -float("inf"))
    highest = tl.max(tl.load(top + row * blocks + block, mask, -float("inf")), 0)
    token = tl.load(where + row * blocks + block, mask, vocab)
    winner = tl.min(tl.where(score == tl.max(score, 0), token, vocab), 0)
    tl.store(tokens + row, tl.minimum(winner, vocab - 1).to(tl.int64))  # of NaN scores none is the greatest
    tl.store(finite + row, (highest > -float("inf")) & (highest < float("inf")))
    tl.store(greatest + row, highest)
