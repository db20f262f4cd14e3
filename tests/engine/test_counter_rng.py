import pytest
import torch

from specbatch.engine.counter_rng import STREAM_VERSION, Purpose, exponentials, position_keys, uniforms
from specbatch.engine.request import Request
from tests.engine.goodness import kolmogorov_smirnov


def keys(rows=200, positions=50, purpose=Purpose.TOKEN, seed=0):
    row_keys = torch.tensor([Request(str(i), [0], 1, seed=seed).random_key for i in range(rows)])
    return position_keys(row_keys, torch.arange(positions).expand(rows, positions), purpose)


def test_uniforms_are_uniform_and_never_zero():
    draws = uniforms(keys()).flatten()
    assert draws.min() > 0
    assert draws.max() <= 1
    assert kolmogorov_smirnov(draws) > 0.001


def test_exponentials_are_exponential_and_positive():
    draws = exponentials(keys(20, 20), torch.arange(50)).flatten()
    assert draws.min() > 0
    assert kolmogorov_smirnov(-torch.expm1(-draws)) > 0.001


def test_the_smallest_draws_keep_their_precision():
    """The smallest of 2**17 draws decides a race over a large vocabulary: coarse ones would tie."""
    draws = exponentials(keys(1, 8), torch.arange(2**17))[0]
    smallest = draws.topk(64, largest=False).values
    assert (smallest.diff(dim=-1) > 0).all()


@pytest.mark.parametrize("other", [{"purpose": Purpose.DRAFT}, {"purpose": Purpose.ACCEPT}, {"seed": 1}])
def test_streams_of_another_purpose_or_seed_are_independent(other):
    a, b = uniforms(keys()).flatten(), uniforms(keys(**other)).flatten()
    assert not torch.equal(a, b)
    assert abs(torch.corrcoef(torch.stack([a, b]))[0, 1]) < 0.04


def test_neighbouring_positions_and_rows_are_independent():
    draws = uniforms(keys())
    assert abs(torch.corrcoef(torch.stack([draws[:, :-1].flatten(), draws[:, 1:].flatten()]))[0, 1]) < 0.04
    assert abs(torch.corrcoef(torch.stack([draws[:-1].flatten(), draws[1:].flatten()]))[0, 1]) < 0.04


def test_a_draw_depends_on_its_own_row_and_position_alone():
    whole = exponentials(keys(), torch.arange(7))
    some = position_keys(torch.tensor([Request("17", [0], 1).random_key]), torch.tensor([[30, 4]]), Purpose.TOKEN)
    torch.testing.assert_close(exponentials(some, torch.arange(7))[0], whole[17, [30, 4]], rtol=0, atol=0)


def test_the_draws_of_a_row_change_only_with_the_version():
    """Stored runs are replayed, down to the noise: a change must count STREAM_VERSION up, and old directories are then refused."""
    drawn = exponentials(keys(2, 2), torch.arange(3))[1, 1]
    assert STREAM_VERSION == 1
    torch.testing.assert_close(
        drawn, torch.tensor([0.6414579153060913, 2.7817091941833496, 0.601868212223053]), rtol=1e-6, atol=0
    )


def test_the_random_key_of_a_row_is_stable_across_versions():
    """Stored runs are replayed from (seed, id): changing this changes every sampled text."""
    assert Request("row-1", [0], 1, seed=0).random_key == 5668667891379177889
    assert Request("row-\ud800", [0], 1).random_key != Request("row-", [0], 1).random_key
