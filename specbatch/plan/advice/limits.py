"""What limits the rows at once: the spec, what `auto` takes at the most, or the memory of a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from specbatch.plan.candidates import Candidate
from specbatch.plan.types import DeviceUse


def rows_limit(chosen: Candidate, uses: Sequence[DeviceUse]) -> str:
    """A sentence about a placement that fits."""
    rows, request = chosen.rows, chosen.request
    if request.min_rows == request.max_rows:
        why = "as the spec has it"
    elif rows == request.most_rows(stages=chosen.layout.ratio[0]):
        why = "the most that maxSequences: auto takes"
    else:
        why = f"limited by the memory of {span([use.device for use in uses if use.rows == rows])}"
    sentence = f"Rows at once: {rows:,}, {why}"
    lacking = [use for use in uses if use.rows < rows]  # the drafter's: they limit what is drafted, and no row
    if not lacking:
        return sentence
    return f"{sentence}; {span([use.device for use in lacking])} can draft for {min(use.rows for use in lacking):,} of them"


def span(devices: Sequence[str]) -> str:
    """`cuda:0`, `cuda:0 to cuda:5`, `cuda:0 to cuda:2 and cuda:7`."""
    return " and ".join(one if one == other else f"{one} to {other}" for one, other in _runs(devices))


def _runs(devices: Sequence[str]) -> Iterator[tuple[str, str]]:
    """First and last of those that follow each other."""
    first = last = devices[0]
    for device in devices[1:]:
        if _number(device) != _number(last) + 1:
            yield first, last
            first = device
        last = device
    yield first, last


def _number(device: str) -> int:
    return int(device.partition(":")[2] or 0)
