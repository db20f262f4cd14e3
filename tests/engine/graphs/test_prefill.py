"""Packed prefill: no token is lost, doubled or out of order, and how it is cut changes no KV."""

import copy
import random

import pytest
import torch

from specbatch.engine.graphs import prefill
from specbatch.engine.graphs.cuda_graphs import CudaGraphRunner
from specbatch.engine.graphs.decoder import Decoder
from specbatch.engine.graphs.kv.paging import PAGE, TILE
from specbatch.engine.graphs.kv.pool import PagePool
from specbatch.engine.graphs.lanes import Lane
from specbatch.engine.graphs.prefill import Prefill, pack, sizes
from specbatch.engine.graphs.reference import TorchOps
from specbatch.engine.graphs.state import RowState
from specbatch.engine.request import Request
from specbatch.engine.sequence import SequenceState
from tests.engine import tiny

LONGEST = 320


@pytest.mark.parametrize("chunk", [1, 2, 7, 64, 1000])
def test_every_position_is_in_one_forward_and_in_order(chunk):
    choices = random.Random(chunk)
    stretches = [
        (slot, start, start + choices.choice((0, 1, 5, 100))) for slot, start in enumerate((0, 9, 0, 3, 70) * 40)
    ]
    packs = list(pack(stretches, chunk))
    seen = [(slot, at) for one in packs for slot, start, end in one.stretches for at in range(start, end)]
    assert seen == [(slot, at) for slot, start, end in stretches for at in range(start, end)]
    for one in packs:
        assert one.tokens == sum(end - start for _, start, end in one.stretches)
        assert 0 < one.tokens <= chunk
        assert len(one.stretches) <= prefill._ROWS


def test_forwards_are_filled_to_the_last_token():
    packs = list(pack([(0, 0, 100), (1, 0, 100), (2, 0, 30)], 64))
    assert [one.tokens for one in packs] == [64, 64, 64, 38]
    assert packs[1].stretches == [(0, 64, 100), (1, 0, 28)]


def test_many_short_stretches_take_several_forwards():
    packs = list(pack([(slot, 0, 1) for slot in range(300)], 4096))
    assert [one.tokens for one in packs] == [128, 128, 44]


def test_nothing_to_fill_takes_no_forward():
    assert list(pack([], 64)) == list(pack([(0, 5, 5)], 64)) == []


@pytest.mark.parametrize("chunk", [1, 63, 64, 65, 100, 512, 4096])
def test_a_forward_is_padded_by_a_tile_or_a_quarter_at_the_most(chunk):
    made = sizes(chunk)
    assert made == sorted(set(made))
    assert made[-1] == chunk
    for tokens in range(65, chunk + 1):
        assert next(size for size in made if size >= tokens) - tokens <= max(TILE, tokens / 4)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [7, 64, 100, 4096])
def test_a_forward_is_told_each_tokens_place_and_its_tiles(chunk):
    choices = random.Random(chunk)
    starts = [choices.choice((0, 1, 63, 64, 200)) for _ in range(150)]
    stretches = [(slot, start, start + choices.choice((0, 1, 64, 65, 300))) for slot, start in enumerate(starts)]
    fill = Prefill(None, RowState(150, 512, 2, Lane(torch.device("cpu"))), None, chunk)
    for forward in pack(stretches, chunk):
        fill._load(forward)
        places = [(slot, at) for slot, start, end in forward.stretches for at in range(start, end)]
        size = fill._size(forward)
        padded = places + [(150, -1)] * (size - forward.tokens)
        assert fill._tokens[:, :size].T.tolist() == [list(place) for place in padded]
        tiles = [
            [slot, places.index((slot, first)), first, min(TILE, end - first)]
            for slot, start, end in forward.stretches
            for first in range(start, end, TILE)
        ]
        assert fill._tiles.tolist() == tiles + [[0] * 4] * (len(fill._tiles) - len(tiles))


@pytest.fixture(scope="module")
def rows():
    lengths = (1, 2, 63, 64, 65, 130, 300, 5)
    generator = torch.Generator().manual_seed(0)
    prompts = [torch.randint(0, tiny.VOCAB, (n + 1,), generator=generator).tolist() for n in lengths]
    return [SequenceState(Request(str(i), prompt, 4)) for i, prompt in enumerate(prompts)]


def filled(target, rows, chunk, cut=None):
    """KV of each row after its prompt was filled in, at once or in two goes.  # [(keys, values) of each layer] by row"""
    decoder = Decoder(target, TorchOps(), LONGEST)
    pool = PagePool(decoder, 64, len(rows), LONGEST)
    state = RowState(len(rows), LONGEST, 2, Lane(torch.device("cpu")))
    fill = Prefill(decoder, state, CudaGraphRunner([state.lane]), chunk)
    slots = list(range(len(rows)))[::-1]
    for slot, row in zip(slots, rows, strict=True):
        pool.grow(slot, row.length)
    pool.upload()
    state.join(slots, rows)
    with torch.inference_mode():
        done = 0
        for first, last in [(0, LONGEST)] if cut is None else [(0, cut), (cut, LONGEST)]:
            stretches = [
                (slot, min(first, row.length), min(last, row.length)) for slot, row in zip(slots, rows, strict=True)
            ]
            done += fill.fill(stretches)
    assert done == sum(row.length for row in rows)
    pages = decoder.stages[0].pages
    out = []
    for slot, row in zip(slots, rows, strict=True):
        table = pages.table[slot].long()
        at = torch.arange(row.length)
        out.append([layer[table[at // PAGE], :, at % PAGE].clone() for layer in (*pages.keys, *pages.values)])
    return out


@pytest.mark.parametrize(("chunk", "cut"), [(64, None), (100, None), (7, None), (4096, 3), (64, 64)])
def test_however_prompts_are_cut_and_packed_their_kv_is_that_of_one_large_forward(pair, rows, chunk, cut):
    whole = filled(pair.target, rows, 4096)
    for mine, expected in zip(filled(pair.target, rows, chunk, cut), whole, strict=True):
        for layer, other in zip(mine, expected, strict=True):
            torch.testing.assert_close(layer, other, rtol=1e-4, atol=1e-5)


def test_the_kv_is_that_of_transformers(pair, rows):

    model = copy.deepcopy(pair.target.model)
    model.set_attn_implementation("sdpa")
    for row, mine in zip(rows, filled(pair.target, rows, 64), strict=True):
        with torch.inference_mode():
            cache = model(torch.tensor([row.request.prompt_token_ids[:-1]]), use_cache=True).past_key_values
        theirs = [*(layer.keys for layer in cache.layers), *(layer.values for layer in cache.layers)]
        for layer, other in zip(mine, theirs, strict=True):
            torch.testing.assert_close(layer, other[0].transpose(0, 1), rtol=1e-3, atol=1e-4)
