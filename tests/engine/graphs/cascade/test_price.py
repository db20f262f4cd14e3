"""Reading together pays from so many rows and shared tokens on, as measured on an H200 for Qwen3-8B's shape."""

import pytest
import torch

from specbatch.engine.graphs.cascade.price import CascadePrice
from specbatch.engine.graphs.cascade.tiles import most_tiles, plan_tiles
from specbatch.engine.graphs.kv.paging import PAGE

OF_8B = CascadePrice.of_shape(1, 32, 8, 128, torch.bfloat16, 4.22e12)
MEASURED = {  # microseconds saved in a layer, by rows and queries, of 256, 1,000 and 4,000 shared tokens
    (16, 1): (-4.3, 1.2, 28.4),
    (32, 1): (-5.5, 4.0, 53.4),
    (64, 1): (3.8, 32.9, 144.4),
    (128, 1): (1.1, 46.7, 227.4),
    (256, 1): (12.5, 102.1, 463.3),
    (512, 1): (36.9, 197.8, 908.8),
    (16, 4): (-6.5, -2.3, 24.8),
    (32, 4): (-7.8, 1.8, 45.3),
    (64, 4): (0.2, 26.2, 123.7),
    (128, 4): (-1.6, 35.0, 180.8),
    (256, 4): (-2.3, 69.2, 359.6),
    (512, 4): (-6.5, 121.9, 688.1),
}


def saved(rows, tokens, queries=1, price=OF_8B, own=5):
    tiles = plan_tiles([list(range(tokens // PAGE))] * rows, most_tiles(rows))
    return price.saved(tiles, [tokens // PAGE + own] * rows, queries)


@pytest.mark.parametrize(("rows", "queries"), MEASURED)
def test_it_pays_where_it_was_measured_to(rows, queries):
    for tokens, measured in zip((256, 1000, 4000), MEASURED[rows, queries], strict=True):
        predicted = 1e6 * saved(rows, tokens, queries)
        assert (predicted > 0) == (measured > 0) or abs(measured) < 1
        assert abs(predicted - measured) < 6 + 0.35 * abs(measured)


@pytest.mark.parametrize(("rows", "tokens"), [(1, 4000), (2, 256), (512, 100)])
def test_it_does_not_pay_where_nothing_is_read_again(rows, tokens):
    assert saved(rows, tokens) <= 0


def test_a_row_that_reads_much_of_its_own_waits_for_nobody_to_share_it_out():
    tiles = plan_tiles([list(range(15))] * 16, most_tiles(16))
    assert OF_8B.saved(tiles, [19] * 16, 1) > OF_8B.saved(tiles, [19] * 15 + [80], 1)


def test_more_is_never_saved_than_the_pages_that_are_held_twice_allow():
    for rows in (2, 16, 100, 512):
        for tokens in (256, 1000, 4000):
            assert saved(rows, tokens) <= OF_8B.at_most((rows - 1) * (tokens // PAGE))


def test_a_model_whose_layers_all_have_windows_saves_nothing():
    assert saved(512, 4000, price=CascadePrice.of_shape(0, 32, 8, 128, torch.bfloat16, 4.22e12)) == 0
