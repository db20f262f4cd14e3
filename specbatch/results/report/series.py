"""Numbers behind the figures: several attempts and shards on one time axis, lengths in bins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

from msgspec.structs import replace

from specbatch.results.attempts import Attempt
from specbatch.results.timeline import Sample

_POINTS = 120
_START = Sample(t=0, rows=0, completion_tokens=0)


def joined(attempts: Sequence[Attempt]) -> list[Sample]:
    """A shard's samples over all its attempts, as if each had begun when the one before it ended; the first at 0."""
    line: list[Sample] = []
    for attempt in attempts:
        base = line[-1] if line else _START
        if attempt.timeline and not line:
            line.append(replace(_START, k=attempt.timeline[0].k, gpu_mib=attempt.timeline[0].gpu_mib))
        line += [
            Sample(
                t=base.t + sample.t,
                rows=base.rows + sample.rows,
                completion_tokens=base.completion_tokens + sample.completion_tokens,
                k=sample.k,
                gpu_mib=sample.gpu_mib,
            )
            for sample in attempt.timeline
        ]
    return line


def restarts(attempts: Sequence[Attempt]) -> list[float]:
    """When, on the axis of `joined`, an attempt took over from the one before."""
    ends = list(accumulate(attempt.timeline[-1].t for attempt in attempts if attempt.timeline))
    return ends[:-1]


def time_unit(seconds: float) -> tuple[float, str]:
    """The unit in which so long a time axis reads well: its length in seconds, and its name."""
    for size, name in ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 3 * size:
            return size, name
    return 1.0, "seconds"


def rates(lines: Sequence[Sequence[Sample]]) -> list[tuple[float, float]]:
    """Tokens per second of all shards together, at evenly spaced times; on straight lines between the samples."""
    import numpy as np  # noqa: PLC0415 - comes with matplotlib

    lines = [line for line in lines if len(line) > 1]
    if not lines:
        return []
    end = max(line[-1].t for line in lines)
    steps = min(_POINTS, max(len(line) for line in lines) - 1)
    if end <= 0:
        return []
    times = np.linspace(0.0, end, steps + 1)
    # As floats: a foreign file's counts may be beyond 64 bits.
    counted = [[float(one.completion_tokens) for one in line] for line in lines]
    tokens = sum(np.interp(times, [one.t for one in line], each) for line, each in zip(lines, counted, strict=True))
    return list(zip(times[1:].tolist(), (np.diff(tokens) * steps / end).tolist(), strict=True))


def median(lengths: Mapping[int, int]) -> int:
    """The length that half of the rows do not pass."""
    half, passed = sum(lengths.values()) / 2, 0
    for length in sorted(lengths):
        passed += lengths[length]
        if passed >= half:
            return length
    raise AssertionError("no rows")
