"""Gumbel-max among the tokens that top-p, or top-k, keeps: without a sort, and without a copy of the logits.

The kept tokens are the likeliest ones, up to some rank. So whether a token is kept, one sum tells: of the probabilities of all tokens that
are likelier than it. The winner among all tokens is drawn by `sample`; where it is kept, it has won among the kept tokens too.
That happens with a probability of at least top_p. Elsewhere the row is sampled anew among the tokens that are likelier than the one that
was thrown out, until its winner is kept: the likeliest token always is. (Rejection by pivots, as in FlashInfer's sampling kernels, but
with the noise fixed: the token is the one that a sort would have led to.)
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from specbatch.engine.graphs.kernels.overlap import overlap
from specbatch.engine.graphs.kernels.sampling import _exponential, _log, sample_with_best

# Of the tokens whose probabilities are summed at once. The same for every batch: where a sum is rounded, a row's token may hang on it.
_TILE = 4096


def sample_filtered(
    logits: Tensor, keys: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor
) -> tuple[Tensor, Tensor]:
    """Each position's token: the likeliest, or where temperature > 0 one drawn by Gumbel-max among those that are kept.

    Kept are the `top_k` likeliest tokens, and of these the likeliest whose probabilities reach `top_p`; of equally likely tokens those with the
    lowest ids come first. Probabilities are those of all tokens: a row may have a top-k or a top-p, not both.

    Args:
        logits: [R, vocab]
        keys: from position_keys  # int64 [R]
        temperature: of each position, 0 for greedy  # float32 [R]
        top_k: 0 keeps all  # int64 [R]
        top_p: 1 keeps all  # float32 [R]

    Returns:
        tokens int64 [R]; whether all logits of a position are finite or -inf, and not all -inf  # bool [R]
    """
    count, vocab = logits.shape
    tokens, finite, best = sample_with_best(logits, keys, temperature)
    tile = min(_TILE, triton.next_power_of_2(vocab))
    tiles = triton.cdiv(vocab, tile)
    before = torch.empty((3, count, tiles), dtype=torch.float32, device=logits.device)
    if count:
        row = (logits, temperature, top_k, top_p, best, tokens, before)
        _sum_tiles[(count, tiles)](
            *row, logits.stride(0), vocab, count, tiles, tile, num_warps=4, **overlap(logits.device)
        )
        _settle[(count,)](
            *row,
            keys,
            finite,
            logits.stride(0),
            vocab,
            count,
            tiles,
            triton.next_power_of_2(tiles),
            tile,
            triton.knobs.runtime.interpret,
            num_warps=8,
            **overlap(logits.device),
        )
    return tokens, finite


@triton.jit
def _filters(row, temperature, top_k, top_p):
    """Whether some tokens may not be drawn."""
    return (tl.load(temperature + row) > 0) & ((tl.load(top_k + row) > 0) | (tl.load(top_p + row) < 1))


@triton.jit
def _scores_of(logits, row, stride, tokens, vocab):
    return tl.load(logits + row.to(tl.int64) * stride + tokens, tokens < vocab, -float("inf")).to(tl.float32)


@triton.jit
def _likelier(score, tokens, pivot, pivot_token):
    """Which tokens come before the pivot."""
    return (score > pivot) | ((score == pivot) & (tokens < pivot_token))


@triton.jit
def _sum_tiles(
    logits, temperature, top_k, top_p, best, winners, before,
    stride, vocab, count, tiles, tile: tl.constexpr, overlapped: tl.constexpr,
):  # fmt: skip
    """Of one row's next `tile` tokens: their mass, that of the tokens likelier than the winner, and how many these are."""
    if overlapped:
        tl.extra.cuda.gdc_wait()
    row, number = tl.program_id(0), tl.program_id(1)
    if _filters(row, temperature, top_k, top_p):
        winner = tl.load(winners + row).to(tl.int32)
        pivot = _scores_of(logits, row, stride, winner, vocab)
        tokens = number * tile + tl.arange(0, tile)
        score = _scores_of(logits, row, stride, tokens, vocab)
        mass = tl.exp((score - tl.load(best + row)) / tl.load(temperature + row))
        likelier = _likelier(score, tokens, pivot, winner)
        at = before + row * tiles + number
        tl.store(at, tl.sum(mass, 0))
        tl.store(at + count * tiles, tl.sum(tl.where(likelier, mass, 0.0), 0))
        tl.store(at + 2 * count * tiles, tl.sum(likelier.to(tl.float32), 0))


@triton.jit
def _settle(
    logits, temperature, top_k, top_p, best, winners, before, keys, finite,
    stride, vocab, count, tiles, width: tl.constexpr, tile: tl.constexpr, interpreted: tl.constexpr, overlapped: tl.constexpr,
):  # fmt: skip
    """Samples anew among the tokens likelier than the winner, while that is not kept."""
    if overlapped:
        tl.extra.cuda.gdc_wait()
    row = tl.program_id(0)
    if _filters(row, temperature, top_k, top_p) & tl.load(finite + row):
        number = tl.arange(0, width)
        at = before + row * tiles + number
        mass = tl.sum(tl.load(at, number < tiles, 0.0), 0)
        mass_before = tl.sum(tl.load(at + count * tiles, number < tiles, 0.0), 0)
        rank = tl.sum(tl.load(at + 2 * count * tiles, number < tiles, 0.0), 0)

        heat, greatest, key = tl.load(temperature + row), tl.load(best + row), tl.load(keys + row)
        enough, most = tl.load(top_p + row) * mass, tl.load(top_k + row)
        most = tl.where(most > 0, most, vocab).to(tl.float32)
        winner = tl.load(winners + row).to(tl.int32)
        while (rank > 0) & ((rank >= most) | (mass_before >= enough)):
            pivot = _scores_of(logits, row, stride, winner, vocab)
            won, next_winner = -float("inf"), winner
            for start in range(0, vocab, tile):
                tokens = start + tl.arange(0, tile)
                score = _scores_of(logits, row, stride, tokens, vocab)
                noise = _log(_exponential(key, tokens, interpreted), interpreted)
                raced = tl.where(_likelier(score, tokens, pivot, winner), score * (1.0 / heat) - noise, -float("inf"))
                value = tl.max(raced, 0)
                first = tl.min(tl.where(raced == value, tokens, vocab), 0)
                next_winner = tl.where(value > won, first, next_winner)
                won = tl.maximum(value, won)
            pivot = _scores_of(logits, row, stride, next_winner, vocab)
            mass_before, rank = 0.0, 0.0
            for start in range(0, vocab, tile):
                tokens = start + tl.arange(0, tile)
                score = _scores_of(logits, row, stride, tokens, vocab)
                likelier = _likelier(score, tokens, pivot, next_winner)
                mass_before += tl.sum(tl.where(likelier, tl.exp((score - greatest) / heat), 0.0), 0)
                rank += tl.sum(likelier.to(tl.float32), 0)
            # All that is likelier has noise of inf: nothing can be drawn among them. No one will see that; the loop must end all the same.
            rank = tl.where(next_winner == winner, 0.0, rank)
            winner = next_winner
        tl.store(winners + row, winner.to(tl.int64))
