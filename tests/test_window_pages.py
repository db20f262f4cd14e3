"""Pages of layers with a window: as many as all rows may hold, made where that is no more than whole rows would have at the least."""

from specbatch.engine.graphs.kv import paging
from specbatch.window_pages import PAGE, pages_a_row, sliding_pages

K = 3


def test_pages_are_the_engines():
    assert PAGE == paging.PAGE


def test_a_row_holds_its_window_and_a_round_wherever_pages_begin():
    assert [pages_a_row(window, K) for window in (1, PAGE, PAGE + 1, 1024)] == [3, 3, 4, 18]
    assert pages_a_row(PAGE, 40) == -(-(PAGE + 3 * 42) // PAGE) + 1


def test_short_rows_have_no_pages_apart():
    assert sliding_pages(0, K, 8, 12, PAGE) == 0  # no window
    assert sliding_pages(PAGE, K, 8, 6, PAGE) == sliding_pages(8 * PAGE, K, 8, 12, PAGE) == 0
    assert sliding_pages(PAGE, K, 8, 8, 3 * PAGE) == 8 * pages_a_row(PAGE, K) + 3 == 27


def test_more_rows_never_take_fewer_bytes():
    """Of layers with a window and of all: so that what fits is found by halving."""
    for columns in (4, 18, 36, 41, 64, 129, 513):
        needed = [0]
        for rows in range(1, 70):
            least = max(columns, rows * -(-columns // 2))
            needed.append(sliding_pages(1024, K, rows, columns, 4096) or least)
            assert needed[-2] <= needed[-1] <= least
