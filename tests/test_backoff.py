"""Exponential backoff with jitter."""

from __future__ import annotations

import pytest

from specbatch.backoff import Backoff


def test_limits_double_with_every_failure_up_to_the_longest():
    longest = Backoff(first=0.5, longest=3.0, random=lambda _low, high: high)
    assert [longest.seconds(failures) for failures in (1, 2, 3, 4, 10_000)] == [0.5, 1.0, 2.0, 3.0, 3.0]


@pytest.mark.parametrize("failures", [1, 4])
def test_waits_of_many_callers_are_spread_between_zero_and_the_limit(failures):
    limit = Backoff(random=lambda _low, high: high).seconds(failures)
    waits = [Backoff().seconds(failures) for _ in range(200)]
    assert 0 <= min(waits) < limit / 4 < limit * 3 / 4 < max(waits) <= limit
