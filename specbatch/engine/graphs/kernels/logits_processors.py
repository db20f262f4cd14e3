"""logits.processors.process in a few kernels: one pass over the vocabulary, and a program a row for what its own tokens change.

The pass copies logits to float32 and applies a grammar's mask; the program adds biases, penalises and bans in that copy. How often a token
stands before a position is counted in memory that is zero at first: whoever takes a token's count away changes its logits, once. Min-p
takes a second pass, since the likeliest token is known only then.
"""

# ruff: noqa: N803 - what a Triton kernel takes has no Python types, and its constants are capitals
# mypy: disable-error-code="import-untyped, no-untyped-def, untyped-decorator"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from specbatch.engine.logits.options import Processor
from specbatch.engine.logits.row_options import RowOptions

_TILE = 4096  # tokens of the vocabulary
_WIDTH = 1024  # tokens of a row that are looked at together
_IN_PROMPT = tl.constexpr(1 << 30)  # bits of a count beside the number of times in the completion
_IN_DRAFTS = tl.constexpr(1 << 29)
_PENALTIES = Processor.REPETITION | Processor.FREQUENCY
_OF_ROWS = Processor.BIAS | Processor.BAD_WORDS | Processor.NGRAMS | _PENALTIES


def process(
    logits: Tensor,
    options: RowOptions,
    processors: Processor,
    history: Tensor,
    slots: Tensor,
    positions: Tensor,
    prompt_lengths: Tensor,
    temperature: Tensor,
    mask: Tensor | None,
) -> Tensor:
    """logits_processors.process_slots. The positions of a row follow each other."""
    rows, n = positions.shape
    vocab = logits.shape[-1]
    source = logits.reshape(rows * n, vocab)
    scores = torch.empty(rows * n, vocab, dtype=torch.float32, device=logits.device)
    masked = mask if processors & Processor.GRAMMAR else None
    if not processors & Processor.MIN_P or masked is not None or processors & _OF_ROWS:
        _copy_tiles(source, scores, n, masked)
        source = scores
    if processors & _OF_ROWS:
        penalised = bool(processors & _PENALTIES)
        counts = torch.zeros(rows if penalised else 0, vocab, dtype=torch.int32, device=logits.device)
        _, words, longest = options.bad_words.shape
        _change_rows[(rows,)](
            scores, counts, history, slots, positions, prompt_lengths, options.reals, options.ngram, options.entries,
            options.bias_tokens, options.bias_until, options.bias_values, options.bad_words,
            history.stride(0), vocab, n, options.bias_tokens.shape[1], words, longest,
            BIAS=bool(processors & Processor.BIAS), PENALTIES=penalised, NGRAMS=bool(processors & Processor.NGRAMS),
            BAD_WORDS=bool(processors & Processor.BAD_WORDS), WORDS=triton.next_power_of_2(max(words, 1)), WIDTH=_WIDTH, num_warps=8,
        )  # fmt: skip
    if processors & Processor.MIN_P:
        tile, tiles = _tiles(vocab)
        best = torch.empty(rows * n, tiles, dtype=torch.float32, device=logits.device)
        _best_of_tiles[(rows * n, tiles)](source, best, source.stride(0), vocab, tiles, TILE=tile, num_warps=4)
        _copy_tiles(source, scores, n, None, (best, slots, temperature, options.reals))
    return scores.view(rows, n, vocab)


def _tiles(vocab: int) -> tuple[int, int]:
    tile = min(_TILE, triton.next_power_of_2(vocab))
    return tile, triton.cdiv(vocab, tile)


def _copy_tiles(
    source: Tensor,
    scores: Tensor,
    n: int,
    mask: Tensor | None,
    min_p: tuple[Tensor, Tensor, Tensor, Tensor] | None = None,
) -> None:
    count, vocab = source.shape
    tile, tiles = _tiles(vocab)
    best, slots, temperature, reals = min_p or (scores, scores, scores, scores)
    strides = (mask.stride(0), mask.stride(1)) if mask is not None else (0, 0)
    _copy[(count, tiles)](
        source, scores, scores if mask is None else mask, best, slots, temperature, reals,
        source.stride(0), *strides, vocab, tiles, n,
        MASKED=mask is not None, MIN_P=min_p is not None, TILES=triton.next_power_of_2(tiles), TILE=tile, num_warps=4,
    )  # fmt: skip


@triton.jit(do_not_specialize=["n"])
def _copy(
    logits, scores, mask, best, slots, temperature, reals, stride, mask_of_row, mask_of_position, vocab, tiles, n,
    MASKED: tl.constexpr, MIN_P: tl.constexpr, TILES: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """One position's next TILE tokens in float32, without those that the mask forbids or that min-p leaves out."""
    at, tile = tl.program_id(0), tl.program_id(1)
    tokens = tile * TILE + tl.arange(0, TILE)
    score = tl.load(logits + at.to(tl.int64) * stride + tokens, tokens < vocab, 0).to(tl.float32)
    if MASKED:
        words = mask + (at // n).to(tl.int64) * mask_of_row + (at % n) * mask_of_position
        allowed = (tl.load(words + tokens // 32, tokens < vocab, 0) >> (tokens % 32)) & 1
        score = tl.where(allowed != 0, score, -float("inf"))
    if MIN_P:
        slot = tl.load(slots + at // n)
        share = tl.load(reals + slot * 4 + 3)
        number = tl.arange(0, TILES)
        greatest = tl.max(tl.load(best + at * tiles + number, number < tiles, -float("inf")), 0)
        least = tl.where(share > 0, greatest + tl.load(temperature + slot) * tl.log(share), -float("inf"))
        score = tl.where(score < least, -float("inf"), score)
    tl.store(scores + at.to(tl.int64) * vocab + tokens, score, tokens < vocab)


@triton.jit
def _best_of_tiles(logits, best, stride, vocab, tiles, TILE: tl.constexpr):
    """The greatest logit of one position's next TILE tokens."""
    at, tile = tl.program_id(0), tl.program_id(1)
    tokens = tile * TILE + tl.arange(0, TILE)
    score = tl.load(logits + at.to(tl.int64) * stride + tokens, tokens < vocab, -float("inf")).to(tl.float32)
    tl.store(best + at * tiles + tile, tl.max(score, 0))


@triton.jit(do_not_specialize=["n"])
def _change_rows(
    scores, counts, history, slots, positions, prompt_lengths, reals, ngrams, entries, bias_tokens, bias_until, bias_values, bad_words,
    history_stride, vocab, n, most_biased, words, longest,
    BIAS: tl.constexpr, PENALTIES: tl.constexpr, NGRAMS: tl.constexpr, BAD_WORDS: tl.constexpr, WORDS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """All positions of one row."""
    row = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + row)
    line = history + slot * history_stride
    prompt = tl.load(prompt_lengths + slot)
    first = tl.load(positions + row * n)  # where the first token that is chosen will stand
    out = scores + row * n * vocab
    if BIAS:
        biased = tl.load(entries + slot * 2)
        for start in range(0, biased, WIDTH):
            at = start + tl.arange(0, WIDTH)
            there = at < biased
            entry = slot * most_biased + at
            token, value = tl.load(bias_tokens + entry, there, 0), tl.load(bias_values + entry, there, 0.0)
            until = tl.load(bias_until + entry, there, 0)
            for j in range(n):
                tl.atomic_add(out + j * vocab + token, value, there & (first + j - prompt < until), sem="relaxed")
        tl.debug_barrier()
    if PENALTIES:
        _penalise(out, counts + row * vocab, line, first, prompt, reals + slot * 4, vocab, n, WIDTH)
        tl.debug_barrier()
    if NGRAMS:
        _ban_ngrams(out, line, first, tl.load(ngrams + slot), vocab, n, WIDTH)
    if BAD_WORDS:  # noqa: SIM102 - a constant first, which leaves the other out of the kernel
        if tl.load(entries + slot * 2 + 1) > 0:
            _ban_words(out, line, first, prompt, bad_words + slot * words * longest, vocab, n, words, longest, WORDS)


@triton.jit
def _penalise(out, counts, line, first, prompt, reals, vocab, n, WIDTH: tl.constexpr):
    repetition, frequency, presence = tl.load(reals), tl.load(reals + 1), tl.load(reals + 2)
    end = first + n - 1  # of the drafts that stand before the last position
    for start in range(0, end, WIDTH):
        at = start + tl.arange(0, WIDTH)
        token = tl.load(line + at, at < end, 0)
        tl.atomic_or(counts + token, _IN_PROMPT, at < prompt, sem="relaxed")
        tl.atomic_or(counts + token, _IN_DRAFTS, (at >= first) & (at < end), sem="relaxed")
        tl.atomic_add(counts + token, 1, (at >= prompt) & (at < first), sem="relaxed")
    tl.debug_barrier()
    for start in range(0, end, WIDTH):
        at = start + tl.arange(0, WIDTH)
        token = tl.load(line + at, at < end, 0)
        count = tl.where(at < end, tl.atomic_xchg(counts + token, 0, at < end, sem="relaxed"), 0)
        times = (count & (_IN_DRAFTS - 1)).to(tl.float32)
        stands = ((count & _IN_PROMPT) != 0) | (times > 0)
        for j in range(n):
            drafted = (count != 0) & (token == tl.load(line + first + j - 1)) & (j > 0)
            times += drafted.to(tl.float32)
            stands = stands | drafted
            value = tl.load(out + j * vocab + token, stands, 0.0)
            value = tl.where(value > 0, tl.math.div_rn(value, repetition), value * repetition)
            value = value - frequency * times - tl.where(times > 0, presence, 0.0)
            tl.store(out + j * vocab + token, value, stands)


@triton.jit
def _ban_ngrams(out, line, first, size, vocab, n, WIDTH: tl.constexpr):
    """Every token that followed an earlier occurrence of the last size - 1 tokens."""
    if size > 0:
        for start in range(-1, first + n - 2, WIDTH):
            end = start + tl.arange(0, WIDTH)  # of an earlier occurrence
            token = tl.load(line + end + 1, end + 1 < first + n - 1, 0)
            for j in range(n):
                banned = (end + 1 < first + j) & (end >= size - 2)
                for back in range(size - 1):
                    query = tl.load(line + tl.maximum(first + j - 1 - back, 0))
                    banned = banned & (tl.load(line + end - back, banned, -1) == query)
                tl.store(out + j * vocab + token, -float("inf"), banned)


@triton.jit
def _ban_words(out, line, first, prompt, bad_words, vocab, n, words, longest, WORDS: tl.constexpr):
    """The last token of a word whose others end the completion."""
    word = tl.arange(0, WORDS)
    ends = bad_words + word * longest + longest - 1
    last = tl.load(ends, word < words, -1)
    for j in range(n):
        alike = last >= 0
        for back in range(1, longest):
            wanted, at = tl.load(ends - back, word < words, -1), first + j - back
            token = tl.load(line + at, at >= prompt, -2)
            alike = alike & ((wanted == token) | (wanted == -1))
        tl.store(out + j * vocab + last, -float("inf"), alike)
