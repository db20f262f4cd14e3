"""Moments in a device's queue of work, and the time between them."""

from __future__ import annotations

import time

import torch

Mark = torch.cuda.Event | float


def mark(device: torch.device) -> Mark:
    """This moment in the device's queue of work; on a CPU, which has none, this moment."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event


def reach(mark: Mark) -> None:
    """Waits until the device has come past a mark."""
    if not isinstance(mark, float):
        mark.synchronize()


def is_reached(mark: Mark) -> bool:
    """Whether the device has come past a mark."""
    return isinstance(mark, float) or mark.query()


def seconds_between(start: Mark, end: Mark) -> float:
    """Device time between two marks that are both reached."""
    if isinstance(start, float) or isinstance(end, float):
        assert isinstance(start, float), "both marks are of one device"
        assert isinstance(end, float), "both marks are of one device"
        return end - start
    return float(start.elapsed_time(end)) / 1000.0


class PrefillTimer:
    """Keeps when prefills and catch-ups between two rounds began and ended, without waiting for the device."""

    def __init__(self) -> None:
        self._spans: list[tuple[Mark, Mark, bool]] = []

    def add(self, start: Mark, end: Mark, *, of_drafter: bool) -> None:
        """What was queued between two marks was a prefill of the target, or a catch-up of the drafter."""
        self._spans.append((start, end, of_drafter))

    def take(self) -> list[tuple[Mark, Mark, bool]]:
        """(start, end, whether of the drafter) of each since the last call; see seconds_of."""
        spans, self._spans = self._spans, []
        return spans


def seconds_of(spans: list[tuple[Mark, Mark, bool]]) -> tuple[float, float]:
    """Device time of all spans, and of the drafter's among them, once the device has come past them."""
    spent = [(seconds_between(start, end), of_drafter) for start, end, of_drafter in spans]
    return sum(each for each, _ in spent), sum(each for each, of_drafter in spent if of_drafter)
