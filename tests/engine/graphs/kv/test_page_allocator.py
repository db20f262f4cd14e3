"""Pages are shared by their keys, counted, and given up when memory is needed: the longest unused first."""

import random

from specbatch.engine.graphs.kv.page_allocator import PageAllocator

KEYS = [bytes([number]) for number in range(8)]


def join(allocator, keys, own=0):
    """What a row of these keys holds, filled."""
    pages = []
    for key in keys:
        page = allocator.share(key)
        pages.append(allocator.take(key) if page is None else page)
    allocator.fill(pages)
    return pages + [allocator.take() for _ in range(own)]


def test_rows_with_the_same_keys_hold_the_same_pages_once():
    allocator = PageAllocator(10)
    first, second = join(allocator, KEYS[:3], own=1), join(allocator, KEYS[:3], own=1)
    assert first[:3] == second[:3]
    assert first[3] != second[3]
    assert allocator.free == 5
    assert [allocator.holders(page) for page in first] == [2, 2, 2, 1]


def test_a_page_that_nobody_holds_stays_until_memory_is_needed():
    allocator = PageAllocator(4)
    row = join(allocator, KEYS[:3])
    allocator.release(row)
    assert (allocator.free, len(allocator.unused)) == (4, 1)
    assert join(allocator, KEYS[:3]) == row
    allocator.release(row)
    other = [allocator.take() for _ in range(2)]  # the free one, and of the row the last
    assert other[1] == row[2]
    assert allocator.found(KEYS) == 2


def test_of_two_rows_the_one_that_was_used_longer_ago_goes_first():
    allocator = PageAllocator(4)
    first, second = join(allocator, KEYS[:2]), join(allocator, KEYS[2:4])
    allocator.release(first)
    allocator.release(second)
    allocator.release(join(allocator, KEYS[:2]))
    assert [allocator.take() for _ in range(4)] == [*reversed(second), *reversed(first)]


def test_a_page_that_was_never_filled_is_not_found_after_its_row():
    allocator = PageAllocator(4)
    page = allocator.take(KEYS[0])
    assert allocator.share(KEYS[0]) == page  # another row may hold it, and fill it itself
    assert allocator.filled([page]) == 0
    allocator.release([page])
    assert allocator.found(KEYS) == 1
    allocator.release([page])
    assert allocator.found(KEYS) == 0
    assert len(allocator.unused) == 4


def test_what_is_forgotten_is_found_by_nobody_and_held_as_before():
    allocator = PageAllocator(6)
    held, left, pending = join(allocator, KEYS[:2]), join(allocator, KEYS[2:3]), allocator.take(KEYS[3])
    allocator.release(left)
    allocator.forget_all()
    assert allocator.found(KEYS) == allocator.found(KEYS[2:]) == 0
    assert allocator.filled([*held, pending]) == 2
    assert not {*join(allocator, KEYS[:2])} & {*held}
    allocator.release([*held, pending])
    assert allocator.free == 4
    assert {*held, pending} <= {*allocator.unused}


def test_what_rows_cost_together_is_what_they_take():
    allocator = PageAllocator(12)
    running, cached = join(allocator, KEYS[:2]), join(allocator, KEYS[4:6])
    allocator.release(cached)
    rows, taken, before = [KEYS[:4], KEYS[:3], KEYS[4:8]], set(), allocator.free
    cost = sum(allocator.cost(row, taken) for row in rows)
    assert allocator.held(KEYS) == 2
    for row in rows:
        join(allocator, row)
    assert cost == before - allocator.free == 6
    assert running[0] not in allocator.unused


def test_through_any_joining_and_leaving_no_page_is_lost_or_held_twice_by_chance():
    chance, allocator, rows = random.Random(4), PageAllocator(20), []
    for _ in range(2000):
        keys, own = KEYS[: chance.randint(0, 8)], chance.randint(0, 3)
        if chance.random() < 0.5:  # of another document
            keys = [key + b"'" for key in keys]
        if allocator.free >= len(keys) + own:
            rows.append((keys, join(allocator, keys, own)))
        elif rows:
            allocator.release(rows.pop(chance.randrange(len(rows)))[1])
        page_of = {}
        for keys, pages in rows:
            for key, page in zip(keys, pages, strict=False):
                assert page_of.setdefault(key, page) == page
        own = [page for keys, pages in rows for page in pages[len(keys) :]]
        held = {*page_of.values(), *own}
        assert len(held) == len(page_of) + len(own) == 20 - allocator.free
        assert allocator.repeated == sum(len(pages) for _, pages in rows) - len(held)
