"""Layers with a window: the pages that a token can look back on are held, no more of them than a row may have, and none in two hands."""

import random
from types import SimpleNamespace

import pytest

from specbatch.engine.graphs.kv.paging import PAGE
from specbatch.engine.graphs.kv.sliding import SlidingPool
from specbatch.engine.prefix import prefix_keys
from specbatch.window_pages import pages_a_row, sliding_pages

COLUMNS, K = 12, 3


def pool_of(window, slots=3, chunk=2 * PAGE):
    pages = sliding_pages(window, K, slots, COLUMNS, chunk)
    assert pages
    return SlidingPool(pages, slots, COLUMNS, window, [SimpleNamespace(device="cpu", lane=None)])


def prefill(pool, stretches):
    """Forward by forward; what each token looks back on is there while it runs."""
    pool.table.upload = lambda: None
    for stretch in stretches:
        pool.prepare([stretch])
        seen(pool, *stretch)
    pool.prepare(())


def seen(pool, slot, start, end):
    """All positions that tokens from `start` to before `end` look back on lie in pages of the slot."""
    for position in range(start, end):
        for back in {max(0, position + 1 - pool.window), position}:
            assert back // PAGE in pool.held[slot], (position, back)


def consistent(pool):
    """A page that no key can find is free, or held once."""
    held = [page for pages in pool.held for page in pages.values()]
    assert len({*held}) + pool.allocator.free == pool.pages
    assert 0 not in held
    for slot, pages in enumerate(pool.held):
        assert {place: page for place, page in enumerate(pool.table.lines[slot]) if page} == pages


@pytest.mark.parametrize("window", [1, 2, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE + 5])
def test_every_token_of_every_round_finds_its_window_and_a_row_holds_no_more_than_it_may(window):
    pool, k = pool_of(window), K
    prefill(pool, [(0, 0, 100), (0, 100, 130)])
    for length in range(130, COLUMNS * PAGE - 2 * (k + 1), 1):  # a round of which one token stood, and one in flight
        pool.advance([(0, length, length + 2 * k + 3)])
        seen(pool, 0, length, length + 2 * k + 3)
        assert len(pool.held[0]) <= pages_a_row(window, k)
        assert min(pool.held[0]) == max(0, length + 1 - window) // PAGE  # and not one behind
    consistent(pool)
    pool.evict(0)
    assert pool.allocator.free == pool.pages
    assert not pool.table.lines.any()


@pytest.mark.parametrize("seed", range(3))
def test_there_are_pages_for_all_rows_whatever_they_share(seed):
    """Rows join, several at a time, in chunks of a prefill; grow; leave. Of some the beginning is that of others."""
    chance, window, slots, chunk = random.Random(seed), 90, 4, 2 * PAGE
    pool = pool_of(window, slots, chunk)
    documents = [[chance.randrange(50) for _ in range(9 * PAGE)] for _ in range(2)]
    length, saved = [0] * slots, 0
    for _ in range(400):
        free = [slot for slot in range(slots) if not length[slot]]
        if free and chance.random() < 0.5:
            stretches = []
            for slot in free[: chance.randint(1, 3)]:
                count = chance.randrange(3, 8 * PAGE)
                tokens = chance.choice(documents)[:count] + [chance.randrange(50) for _ in range(5)]
                keys = prefix_keys(tokens, PAGE)
                most = chance.choice([len(keys), chance.randint(0, len(keys))])  # what other layers have of it
                shared = pool.join(slot, keys, most)
                assert shared <= most
                saved += shared
                length[slot] = len(tokens) - 1
                start = shared * PAGE
                while start < length[slot]:
                    stretches.append((slot, start, min(start + chunk, length[slot])))
                    start += chunk
            prefill(pool, stretches)
            assert not pool._wanted
        for slot in range(slots):
            if length[slot]:
                pool.advance([(slot, length[slot], length[slot] + 2 * K + 3)])
                seen(pool, slot, length[slot], length[slot] + 2 * K + 3)
                assert len(pool.held[slot]) <= pages_a_row(window, K)
                length[slot] += chance.randint(1, K + 1)
                if length[slot] > (COLUMNS - 1) * PAGE or chance.random() < 0.03:
                    pool.evict(slot)
                    length[slot] = 0
        consistent(pool)
    assert saved > 20
    assert pool.pages - pool.allocator.free <= pool.most_held <= pool.pages


def test_a_beginning_is_found_where_the_pages_that_the_next_token_looks_back_on_are_there():
    pool, keys = pool_of(window=PAGE + 2), [bytes([place]) for place in range(6)]
    assert pool.join(0, keys, 6) == 0  # nobody has filled any
    assert pool.join(1, keys, 6) == 6  # the row before will: it is to have what it looks back on once that is there
    prefill(pool, [(0, start, start + PAGE) for start in range(0, 6 * PAGE, PAGE)] + [(1, 6 * PAGE, 6 * PAGE + 2)])
    assert pool.held[0][5] == pool.held[1][5]
    pool.evict(0)
    pool.evict(1)
    held = [pool.allocator.found([key]) for key in keys]
    assert held == [1] * 6  # memory is enough to keep all
    assert [pool.found(keys, most) for most in range(7)] == [0, 1, 2, 3, 4, 5, 6]
    pool.allocator._forget(pool.allocator._page_of[keys[3]])  # on which the tokens behind pages 3 and 4 look back
    assert [pool.found(keys, most) for most in range(7)] == [0, 1, 2, 3, 3, 3, 6]
