"""How long rows took: a histogram of bounded size, which adds up over replicas, shards and attempts, and its percentiles.

The latency of a row is the time from when a slot is free for it to its last token: its prefill, its rounds, and the time that it had to wait in
between. What it waited for before, behind other rows of the batch job, is left out. Error rows are not counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

_STEPS = 8  # buckets in a doubling of the time: a percentile is off by at most 4.4 percent
_LEAST, _MOST = -80, 160  # 1 ms, 12 days


def bucket(seconds: float) -> str:
    """The histogram's key for a time: bucket b holds 2^(b / 8) to before 2^((b + 1) / 8) seconds."""
    return str(min(max(math.floor(_STEPS * math.log2(max(seconds, 1e-9))), _LEAST), _MOST))


def percentile(counts: Mapping[str, int], share: float) -> float:
    """The time that this share of the rows did not pass, in seconds; of at least one row."""
    buckets = sorted((int(key), rows) for key, rows in counts.items())
    wanted, passed = share * sum(counts.values()), 0
    for number, rows in buckets:
        passed += rows
        if passed >= wanted:
            return edge(number + 0.5)
    raise AssertionError("no rows")


def edge(number: float) -> float:
    """Where a bucket begins, in seconds."""
    return float(2 ** (number / _STEPS))
