"""The histogram of row latencies."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specbatch.results.latency import bucket, edge, percentile


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=300), st.sampled_from([0.5, 0.9, 0.99]))
def test_a_percentile_is_that_of_the_rows_within_five_percent(times, share):
    exact = sorted(times)[math.ceil(share * len(times)) - 1]
    assert percentile(Counter(map(bucket, times)), share) == pytest.approx(exact, rel=0.05)


@given(st.floats(0.001, 1e6))
def test_a_time_is_in_its_bucket(seconds):
    number = int(bucket(seconds))
    assert edge(number) * (1 - 1e-12) <= seconds <= edge(number + 1) * (1 + 1e-12)


@pytest.mark.parametrize("seconds", [0.0, 1e-7, 1e9, 1e300])
def test_a_clock_that_jumps_makes_no_bucket_of_its_own(seconds):
    assert bucket(seconds) in {bucket(0.0009), bucket(1e8)}
