"""What a million tokens cost."""

import pytest
from msgspec.structs import replace

from specbatch.results.cost import cost_of
from specbatch.results.summary import RunSummary, combine
from specbatch.results.summary_text import render_summary
from specbatch.results.totals import Totals

TWO_GPUS = RunSummary(
    seconds=900.0, completion_tokens=1_000_000, gpu_seconds=1800.0, gpu_seconds_before=360.0, price=2.5
)


def test_a_million_tokens_cost_the_hours_that_every_gpu_decoded():
    cost = cost_of(TWO_GPUS)
    assert cost.per_million == pytest.approx(2.5 * 0.5)
    assert cost.total == pytest.approx(2.5 * 0.6)
    assert (
        "\n  cost   1.25 per million tokens: 0.50 GPU hours of decoding at 2.5; 1.50 in all, with loading and warm-up"
        in (render_summary(TWO_GPUS))
    )


def test_another_price_counts_in_place_of_the_runs_own():
    assert cost_of(TWO_GPUS, 5).per_million == pytest.approx(2.5)


@pytest.mark.parametrize("missing", [{"price": None}, {"gpu_seconds": 0.0}, {"completion_tokens": 0}])
def test_without_a_price_gpus_or_tokens_there_is_no_cost(missing):
    assert cost_of(replace(TWO_GPUS, **missing)) is None


@pytest.mark.parametrize("at_once", [False, True])
def test_the_gpus_of_every_shard_and_attempt_are_paid_for(at_once):
    short = replace(TWO_GPUS, seconds=90.0, gpu_seconds=180.0, gpu_seconds_before=36.0)
    both = combine([TWO_GPUS, short], Totals(), at_once=at_once)
    assert (both.gpu_seconds, both.gpu_seconds_before, both.price) == (1980.0, 396.0, 2.5)
