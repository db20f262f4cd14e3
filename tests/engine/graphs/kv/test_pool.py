"""Pages are handed out once, come back, and the devices' tables say who holds which."""

import random

import pytest
import torch

from specbatch.engine.graphs.decoder import Decoder
from specbatch.engine.graphs.kv.paging import PAGE
from specbatch.engine.graphs.kv.pool import PagePool, page_bytes, pages_for
from specbatch.engine.graphs.reference import TorchOps

SLOTS, LONGEST = 3, 4 * PAGE


@pytest.fixture
def decoder(pair):
    return Decoder(pair.target, TorchOps(), LONGEST)


def pool_of(decoder, pages=8):
    return PagePool(decoder, pages, SLOTS, LONGEST)


def consistent(pool):
    """A page is free, or in exactly one slot's list; page 0 is neither."""
    held = [page for pages in pool.held for page in pages]
    return sorted([*held, *pool.allocator.unused]) == list(range(1, pool.pages + 1))


@pytest.mark.parametrize(
    ("positions", "pages"), [(0, 0), (1, 1), (PAGE - 1, 1), (PAGE, 1), (PAGE + 1, 2), (10 * PAGE, 10)]
)
def test_positions_take_whole_pages(positions, pages):
    assert pages_for(positions) == pages


def test_a_page_takes_keys_and_values_of_every_layer(decoder):
    assert page_bytes(decoder) == {
        torch.device("cpu"): 2 * 2 * 8 * PAGE * 4 * 2
    }  # k and v, heads, width, float32, layers


def test_the_stages_hold_one_page_more_than_is_handed_out(decoder):
    pool_of(decoder)
    pages = decoder.stages[0].pages
    assert len(pages.keys) == len(pages.values) == 2
    assert {layer.shape for layer in (*pages.keys, *pages.values)} == {(9, 2, PAGE, 8)}
    assert pages.table.shape == (SLOTS + 1, 4)


def test_all_slots_grow_or_none_does(decoder):
    pool = pool_of(decoder)
    assert pool.reserve([(0, 3 * PAGE), (2, PAGE + 1)])
    assert [len(pages) for pages in pool.held] == [3, 0, 2, 0]
    assert not pool.reserve([(0, PAGE), (1, 2 * PAGE), (2, 4 * PAGE)])  # 4 of the 3 that are left
    assert [len(pages) for pages in pool.held] == [3, 0, 2, 0]
    assert pool.reserve([(0, PAGE), (1, PAGE), (2, 4 * PAGE)])
    assert [len(pages) for pages in pool.held] == [3, 1, 4, 0]
    assert consistent(pool)


def test_a_slot_grows_page_by_page_and_the_table_follows_when_it_is_uploaded(decoder):
    pool = pool_of(decoder)
    table = decoder.stages[0].pages.table
    assert pool.missing(1, PAGE + 1) == 2
    pool.grow(1, PAGE + 1)
    pool.grow(1, PAGE)  # has them already
    assert (pool.missing(1, PAGE + 1), pool.free) == (0, 6)
    assert not table.any()
    pool.upload()
    assert table[1, :2].tolist() == pool.held[1]
    assert 0 not in pool.held[1]
    pool.grow(1, 3 * PAGE)
    pool.upload()
    assert table.tolist() == [[0] * 4, [*pool.held[1], 0], [0] * 4, [0] * 4]


def test_pages_that_come_back_leave_the_table_and_serve_the_next_slot(decoder):
    pool = pool_of(decoder, pages=2)
    pool.grow(0, 2 * PAGE)
    had = list(pool.held[0])
    pool.evict(0)
    assert pool.free == 2
    pool.grow(2, 2 * PAGE)
    pool.upload()
    assert pool.held[2] == had
    assert decoder.stages[0].pages.table.tolist() == [[0] * 4, [0] * 4, [*had, 0, 0], [0] * 4]


def test_nothing_is_uploaded_where_nothing_changed(decoder):
    pool = pool_of(decoder)
    pool.grow(0, 5)
    pool.upload()
    table = decoder.stages[0].pages.table
    table.fill_(7)
    pool.upload()
    pool.evict(1)  # held nothing
    pool.grow(0, PAGE)
    pool.upload()
    assert (table == 7).all()


def test_a_page_is_never_in_two_hands(decoder):
    pool, choices = pool_of(decoder), random.Random(0)
    for _ in range(500):
        slot = choices.randrange(SLOTS)
        if choices.random() < 0.4:
            pool.evict(slot)
        positions = choices.randrange(LONGEST)
        if pool.missing(slot, positions) <= pool.free:
            pool.grow(slot, positions)
        assert consistent(pool)
    pool.upload()
    for slot, held in enumerate(pool.held):
        assert decoder.stages[0].pages.table[slot].tolist() == [*held, *[0] * (4 - len(held))]


def test_pages_that_slots_share_are_counted_once_where_memory_is_short(decoder):
    pool, keys = pool_of(decoder, pages=6), [b"a", b"b", b"c"]
    for slot in range(3):
        pool.join(slot, keys)
    wanted = [(slot, 4 * PAGE) for slot in range(3)]
    assert pool.reserve(wanted)  # 12 pages of 6: three are the same
    assert [pages[:3] for pages in pool.held[:3]] == [pool.held[0][:3]] * 3
    assert (pool.free, pool.filled(1)) == (0, 0)
    pool.fill(1)
    assert (pool.filled(0), pool.filled(2)) == (3 * PAGE, 3 * PAGE)
    for slot in range(3):
        pool.evict(slot)
        pool.join(slot, [bytes([slot]), *keys[1:]])
    assert pool.reserve(wanted[:1])
    assert not pool.reserve(wanted[1:])
    assert not pool.reserve([(1, 4 * PAGE)])
