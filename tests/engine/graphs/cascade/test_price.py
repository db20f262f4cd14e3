"""Reading together pays from so many rows and shared tokens on: figures of an H200 and Qwen3-8B's shape."""

import pytest

from specbatch.engine.graphs.cascade.price import CascadePrice
from specbatch.engine.graphs.cascade.tiles import most_tiles, plan_tiles
from specbatch.engine.graphs.kv.paging import PAGE

BANDWIDTH = 4.0e12  # as an H200 copies
OF_8B = CascadePrice(36, 2 * 8 * 128 * 2 * PAGE / BANDWIDTH, 2 * 4 * 32 * 128 / BANDWIDTH)


def saved(rows, tokens, queries=1, price=OF_8B, own=4):
    tiles = plan_tiles([list(range(tokens // PAGE))] * rows, most_tiles(rows))
    return price.saved(tiles, [tokens // PAGE + own] * rows, queries)


@pytest.mark.parametrize(("rows", "tokens"), [(256, 1000), (128, 1000), (32, 4000), (512, 256)])
def test_it_pays_where_much_is_read_again(rows, tokens):
    assert saved(rows, tokens) > 0


@pytest.mark.parametrize(("rows", "tokens"), [(1, 4000), (2, 1000), (16, 256), (512, 100)])
def test_it_does_not_pay_where_little_is(rows, tokens):
    assert saved(rows, tokens) <= 0


def test_a_row_that_reads_much_of_its_own_waits_for_nobody_to_share_it_out():
    tiles = plan_tiles([list(range(15))] * 16, most_tiles(16))
    assert OF_8B.saved(tiles, [19] * 16, 1) > OF_8B.saved(tiles, [19] * 15 + [80], 1)


def test_more_is_never_saved_than_the_pages_that_are_held_twice_allow():
    for rows in (2, 16, 100, 512):
        for tokens in (256, 1000, 4000):
            assert saved(rows, tokens) <= OF_8B.at_most((rows - 1) * (tokens // PAGE))


def test_a_model_whose_layers_all_have_windows_saves_nothing():
    assert saved(512, 4000, price=CascadePrice(0, OF_8B.page, OF_8B.query)) == 0
