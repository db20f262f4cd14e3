"""Samples of a run over time, bounded in number: a run of days keeps no more than a run of minutes."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class Sample(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """The run at `t` seconds after this attempt began. All but `k`, `active` and `gpu_mib` count from its beginning.

    In files an array of the values in this order: fields may only be added at the end.
    """

    t: float
    rows: int
    completion_tokens: int
    drafted: int = 0
    accepted: int = 0
    k: int = 0  # num_speculative_tokens as of now
    active: int = 0  # rows in the batch now
    gpu_mib: tuple[
        int, ...
    ] = ()  # of each GPU that the process sees, what PyTorch holds now: weights, KV, graphs, and what it keeps to use again


class Timeline:
    """Keeps at most `limit` samples: when there are more, every second one goes and the least interval doubles.

    Add as often as you like; a sample closer to the last kept one than the interval only takes the end's place.
    """

    def __init__(self, limit: int = 240, interval: float = 0.1) -> None:
        assert limit >= 2, limit
        self._limit = limit
        self._interval = interval
        self._kept: list[Sample] = []
        self._last: Sample | None = None

    def add(self, sample: Sample) -> None:
        """Adds a sample, not earlier than the last."""
        if self._kept and sample.t - self._kept[-1].t < self._interval:
            self._last = sample
            return
        self._kept.append(sample)
        self._last = None
        if len(self._kept) >= self._limit:
            if len(self._kept) % 2 == 0:
                self._last = sample  # it goes with every second one, and stays as the end
            del self._kept[1::2]
            self._interval *= 2

    def extend(self, samples: Iterable[Sample]) -> None:
        """Adds several."""
        for sample in samples:
            self.add(sample)

    @property
    def samples(self) -> tuple[Sample, ...]:
        """What is kept, and always the last one. Another thread may be adding: it sees a moment's whole state, or nearly."""
        kept, last = tuple(self._kept), self._last
        return (*kept, last) if last and (not kept or last.t > kept[-1].t) else kept
