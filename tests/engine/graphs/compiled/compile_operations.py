"""What compile_for compiles of models that are built like Llama: every operation, at every number of tokens where its kernel may differ."""

import torch

from specbatch.engine.counter_rng import Purpose
from specbatch.engine.graphs import triton_ops
from specbatch.engine.graphs.cascade.tiles import ROWS, PrefixTiles, most_tiles
from specbatch.engine.graphs.kv.paging import PAGE, Pages, Tiles
from specbatch.engine.logits.options import LONGEST_BAD_WORD, MOST_BAD_WORDS, MOST_BIASED, Processor
from specbatch.engine.logits.row_options import RowOptions

VOCABULARY, POSITIONS, SLOTS = 151936, 4096, 512
MODELS = [(4096, 32, 8, 12288, 128, False), (896, 14, 2, 4864, 64, True)]
"""Hidden size, heads, kv heads, intermediate size, width of a head, whether q, k, v have biases: Qwen3 8B, and Qwen2.5 0.5B, whose heads are half as wide."""


def tensor(*shape, dtype):
    return torch.empty(*shape, dtype=dtype, device="meta")


def every_operation(dtype, hidden, heads, kv_heads, inner, width, biased):
    """Calls each operation at every number of tokens where its kernel may differ; gives them one by one."""
    ops, eps = triton_ops.TritonOps(), 1e-6

    def real(*shape):
        return tensor(*shape, dtype=dtype)

    def whole(*shape):
        return tensor(*shape, dtype=torch.int64)

    def ahead(n):
        residual, o = real(n, hidden), real(hidden, heads * width)
        return ops.linear_add_ahead(real(n, heads * width), o, residual, norm, real(2 * inner, hidden))[1]

    pages = Pages(
        [real(64, kv_heads, PAGE, width)], [real(64, kv_heads, PAGE, width)], tensor(SLOTS + 1, 64, dtype=torch.int32)
    )
    rope = tensor(POSITIONS, width, dtype=torch.float32)
    qkv, norm = (heads + 2 * kv_heads) * width, real(hidden)
    bias = real(qkv) if biased else None
    for n in (1, 2, 16, 32, 64):
        yield lambda n=n: ops.norm_linear(real(n, hidden), norm, eps, real(qkv, hidden), bias)
        yield lambda n=n: ops.linear_add(real(n, heads * width), real(hidden, heads * width), real(n, hidden))
        yield lambda n=n: ops.norm_gated(real(n, hidden), norm, eps, real(2 * inner, hidden))
        yield lambda n=n: ops.linear_add(real(n, inner), real(hidden, inner), real(n, hidden))
        yield lambda n=n: ops.norm_linear(real(n, hidden), norm, eps, real(VOCABULARY, hidden))
        yield lambda n=n: ops.embed(whole(n), real(VOCABULARY, hidden))
        for weight in (None, real(width)):
            yield lambda n=n, weight=weight: ops.rope_write(
                real(n, qkv), weight, weight, eps, rope, pages, 0, whole(n), whole(n)
            )
    for n in (2, 16):
        yield lambda n=n: ops.norm_linear(
            real(n, hidden), norm, eps, real(qkv, hidden), bias, ahead(n), real(hidden, hidden)
        )
        yield lambda n=n: ops.norm_gated(
            real(n, hidden), norm, eps, real(2 * inner, hidden), ahead(n), real(hidden, inner)
        )
    for rows, n in ((1, 1), (1, 4), (32, 4), (512, 1), (8, 9), (2, 17)):
        yield lambda rows=rows, n=n: ops.attend_rows(
            real(rows, n, heads, width), pages, 0, whole(rows), whole(rows), 0.1
        )
        tiles = PrefixTiles(tensor(most_tiles(rows), 2 + ROWS, dtype=torch.int32), tensor(rows, dtype=torch.int32))
        yield lambda rows=rows, n=n, tiles=tiles: ops.attend_cascade(
            real(rows, n, heads, width), pages, 0, whole(rows), whole(rows), tiles, 0.1
        )
        for weight in (None, real(width)):
            yield lambda rows=rows, n=n, weight=weight: ops.rope_attend(
                real(rows * n, qkv), weight, weight, eps, rope, pages, 0, whole(rows), whole(rows), whole(rows * n), whole(rows * n), 0.1,
            )  # fmt: skip
    yield from of_a_head(ops, dtype, hidden, qkv)
    yield lambda: ops.attend_packed(real(1024, heads, width), pages, 0, Tiles(tensor(20, 4, dtype=torch.int32)), 0.1)
    logits, temperature = real(32, VOCABULARY), tensor(32, dtype=torch.float32)
    yield lambda: ops.sample(logits, None, None)
    yield lambda: ops.sample(logits, whole(32), temperature)
    yield lambda: ops.sample_filtered(logits, whole(32), temperature, whole(32), temperature)
    yield lambda: ops.position_keys(whole(8), whole(8, 4), Purpose.TOKEN)
    for count in (16, 64):
        yield lambda count=count: ops.top_candidates(logits, count)
    history, state = whole(SLOTS + 1, POSITIONS), whole(SLOTS + 1)
    yield from of_row_options(ops, logits, history, state)
    yield lambda: ops.next_tokens(history, state, whole(8), 2, 1, None)
    yield lambda: ops.next_tokens(history, state, whole(8), 1, 0, whole(1))
    yield lambda: ops.keep_drafts(history, whole(8), whole(16), whole(8), whole(1), anew=True)
    finite = tensor(8, 4, dtype=torch.bool)
    yield lambda: ops.commit_coupled(history, state, state, whole(8), whole(8, 4), finite, None, whole(8, 7))


def of_row_options(ops, logits, history, state):
    """What rows do that ask for more than a temperature."""

    def whole(*shape):
        return tensor(*shape, dtype=torch.int64)

    bias = SLOTS + 1, MOST_BIASED
    options = RowOptions(
        tensor(SLOTS + 1, 4, dtype=torch.float32), state, whole(*bias), whole(*bias), tensor(*bias, dtype=torch.float32),
        whole(SLOTS + 1, MOST_BAD_WORDS, LONGEST_BAD_WORD), whole(SLOTS + 1, 2),
    )  # fmt: skip
    temperature, mask = tensor(SLOTS + 1, dtype=torch.float32), tensor(8, 9, 4748, dtype=torch.int32)
    yield lambda: ops.logprobs(logits, whole(32))
    every = Processor(2 * Processor.LOGPROBS - 1)
    for n, asked in ((1, Processor.REPETITION), (1, Processor.MIN_P), (4, Processor.NGRAMS), (4, every)):
        yield lambda n=n, asked=asked: ops.process_logits(
            logits.view(8, 4, -1)[:, :n], options, asked, history, whole(8), whole(8, n), state, temperature, mask[:, :n]
        )  # fmt: skip


def of_a_head(ops, dtype, hidden, qkv):
    """What an EAGLE-3 head of a target's size does otherwise."""

    def real(*shape):
        return tensor(*shape, dtype=dtype)

    def whole(*shape):
        return tensor(*shape, dtype=torch.int64)

    for n in (1, 2, 16):
        yield lambda n=n: ops.linear(real(n, 3 * hidden), real(hidden, 3 * hidden))
        yield lambda n=n: ops.linear(real(n, 2 * hidden), real(qkv, 2 * hidden))
        yield lambda n=n: ops.norm_linear(real(n, hidden), real(hidden), 1e-6, real(32_000, hidden))
        yield lambda n=n: ops.embed(whole(n), whole(32_000, 1))
    history, rows = whole(SLOTS + 1, POSITIONS)[:, 1:], whole(8)
    yield lambda: ops.next_tokens(history, whole(SLOTS + 1), rows, 1, 1, whole(1))
    yield lambda: ops.keep_drafts(history, rows, rows, rows, whole(1), anew=False)
