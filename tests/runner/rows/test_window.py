"""Rows that begin alike come one after the other, and none waits for ever."""

import random
import threading

import pytest

from specbatch.engine.graphs.kv.page_allocator import PageAllocator
from specbatch.engine.prefix import PAGE, prefix_keys
from specbatch.runner.rows import window
from specbatch.runner.rows.window import RowWindow, as_bytes, as_tokens, common


def filled(rows, capacity=100):
    made = RowWindow(capacity)
    for name, tokens in rows:
        assert made.put(name, tokens, 0)
    return made


def given(made, count=None):
    """Names of the rows as one engine takes them."""
    names, last = [], None
    while (count is None or len(names) < count) and (taken := made.take(last)) is not None:
        names.append(taken[0])
        last = taken[1]
    return names


def test_rows_that_share_less_than_a_page_come_in_their_order():
    rows = [(number, [9] * (PAGE - 1) + [number]) for number in (5, 2, 7, 1)]
    assert given(filled(rows)) == [5, 2, 7, 1]


def test_rows_of_a_document_follow_each_other_and_documents_come_in_the_order_of_their_first_rows():
    documents = {name: [ord(name)] * PAGE for name in "bac"}
    rows = [(f"{name}{number}", [*documents[name], number]) for number in range(3) for name in "bac"]
    names = given(filled(rows))
    assert [name[0] for name in names] == list("bbbaaaccc")
    assert sorted(names) == sorted(name for name, _ in rows)


def test_of_what_shares_a_page_that_which_shares_most_comes_first():
    system, document = [1] * PAGE, [2] * PAGE
    rows = [
        ("first", [*system, *document, 5]),
        ("far", [*system, 9, 9]),
        ("near", [*system, *document, 7]),
        ("alone", [3]),
    ]
    assert given(filled(rows)) == ["first", "near", "far", "alone"]


def test_two_engines_have_documents_of_their_own():
    rows = [(name, [ord(name)] * (PAGE + number)) for number in range(4) for name in "ab"]
    made = filled(rows)
    lasts, names = {}, {0: "", 1: ""}
    for turn in range(8):
        name, lasts[turn % 2] = made.take(lasts.get(turn % 2))
        names[turn % 2] += name
    assert {*names.values()} == {"aaaa", "bbbb"}


def test_a_row_that_too_many_have_overtaken_goes_first():
    made = filled([("alone", [5]), *((number, [1] * PAGE + [number]) for number in range(3))], capacity=4)
    (first, last), names = made.take(as_bytes([1] * PAGE)), []
    for number in range(100):  # an endless stream of one document
        assert made.put(number, [1] * PAGE + [number], 0)
        name, last = made.take(last)
        names.append(name)
        if name == "alone":
            break
    assert first != "alone"
    assert names.index("alone") == window._PATIENCE * 4


@pytest.mark.parametrize("limit", ["rows", "bytes"])
def test_a_full_window_takes_no_more_until_one_is_taken(monkeypatch, limit):
    monkeypatch.setattr(window, "_MOST_BYTES", 120 if limit == "bytes" else 1000)
    made = filled([(number, [number] * 10) for number in range(3)], capacity=3 if limit == "rows" else 50)
    assert not made.put("late", [1], 0.01)
    threading.Timer(0.02, made.take, [None]).start()
    assert made.put("late", [1], 10)
    assert given(made) == [1, 2, "late"]


def test_a_row_longer_than_all_that_may_be_held_is_held_alone(monkeypatch):
    monkeypatch.setattr(window, "_MOST_BYTES", 20)
    made = filled([("long", [1] * 100)])
    assert not made.put("next", [1], 0)
    assert given(made) == ["long"]


def test_tokens_come_back_as_they_were_and_common_beginnings_are_counted():
    rows = [[], [0], [1, 2, 3], [1, 2, 2**31 - 1], [1] * 50]
    assert [as_tokens(as_bytes(row)) for row in rows] == rows
    for a in rows:
        for b in rows:
            shared = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
            assert common(as_bytes(a), as_bytes(b)) // 4 == shared


def computed(rows, *, capacity, slots, pages, own=2):
    """Prompt tokens that an engine computes, which has so many rows at once and ends them in their order."""
    made, allocator, running, source, tokens, last = RowWindow(capacity), PageAllocator(pages), [], iter(rows), 0, None
    while True:
        while len(made) < capacity and (row := next(source, None)) is not None:
            made.put(None, row, 0)
        taken = made.take(last)
        if taken is None:
            return tokens
        last = taken[1]
        row = as_tokens(last)
        keys = prefix_keys(row, PAGE)
        if len(running) == slots:
            allocator.release(running.pop(0))
        held = []
        for key in keys:
            page = allocator.share(key)
            tokens -= PAGE if page is not None else 0
            held.append(allocator.take(key) if page is None else page)
        tokens += len(row)
        allocator.fill(held)
        running.append(held + [allocator.take() for _ in range(own)])


@pytest.mark.slow
def test_documents_in_random_order_cost_little_more_than_sorted_ones():
    chance = random.Random(8)
    documents = [[chance.randrange(1000) for _ in range(4 * PAGE)] for _ in range(50)]
    rows = [[*document, *(chance.randrange(1000) for _ in range(20))] for document in documents for _ in range(20)]
    shuffled = chance.sample(rows, len(rows))
    sizes = {"slots": 8, "pages": 60}
    best = computed(rows, capacity=1, **sizes)
    assert best == 50 * 4 * PAGE + len(rows) * 20
    assert computed(shuffled, capacity=1, **sizes) > 5 * best
    assert computed(shuffled, capacity=400, **sizes) < 1.5 * best
    assert computed(shuffled, capacity=1000, **sizes) == best
