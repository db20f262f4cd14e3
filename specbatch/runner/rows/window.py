"""The rows that are ready, a bounded window ahead of the engines, and which of them comes next: those with a common beginning one after the other."""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from specbatch.engine.prefix import PAGE

_T = TypeVar("_T")

_MOST_BYTES = 128 << 20  # of rows held: their tokens, and what else they hold
_PATIENCE = 4  # windows of rows that may be given before a row that came earlier
_BYTES = array("i").itemsize


@dataclass(frozen=True, slots=True)
class _Held(Generic[_T]):
    """A row, its tokens as bytes, how many bytes it holds in all, and how many rows had been given when it came."""

    row: _T
    prompt: bytes
    size: int
    came: int


class RowWindow(Generic[_T]):
    """Rows by arrival, and sorted by their tokens: next to a row stands the one that shares most of its beginning.

    Who takes rows gets one that shares at least a page with what they took last, as much of it as any does; else the oldest. A row that more
    than _PATIENCE windows of rows have overtaken goes first.

    Args:
        capacity: rows held, at the most; fewer where they are large.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._bytes = 0
        self._given = 0
        self._by_arrival: OrderedDict[int, _Held[_T]] = OrderedDict()
        self._sorted: list[tuple[bytes, int]] = []  # tokens, number of arrival
        self._arrived = 0
        self._lock = threading.Lock()
        self._fewer = threading.Condition(self._lock)

    def __len__(self) -> int:
        return len(self._sorted)

    def put(self, row: _T, tokens: Sequence[int], timeout: float, beside: int = 0) -> bool:
        """Adds a row; False where there was no room for so many seconds.

        Args:
            row: without its tokens.
            tokens: of its prompt.
            timeout: seconds.
            beside: bytes that it holds beside its tokens.
        """
        prompt = as_bytes(tokens)
        size = len(prompt) + beside
        with self._fewer:
            if not self._fewer.wait_for(self._has_room, timeout):
                return False
            self._by_arrival[self._arrived] = _Held(row, prompt, size, self._given)
            insort(self._sorted, (prompt, self._arrived))
            self._arrived += 1
            self._bytes += size
        return True

    def take(self, beside: bytes | None) -> tuple[_T, bytes] | None:
        """The next row and its tokens; None where there is none.

        Args:
            beside: tokens of the row that was taken last by who asks.
        """
        with self._fewer:
            if not self._sorted:
                return None
            place = self._next(beside)
            _, number = self._sorted.pop(place)
            held = self._by_arrival.pop(number)
            self._given += 1
            self._bytes -= held.size
            self._fewer.notify()
        return held.row, held.prompt

    def _has_room(self) -> bool:
        return len(self._sorted) < self._capacity and (self._bytes < _MOST_BYTES or not self._sorted)

    def _next(self, beside: bytes | None) -> int:
        """Place among the sorted."""
        number, oldest = next(iter(self._by_arrival.items()))
        if beside is not None and self._given - oldest.came <= _PATIENCE * self._capacity:
            at = bisect_left(self._sorted, (beside,))
            shared, place = max((common(beside, self._sorted[near][0]), near) for near in self._around(at))
            if shared >= PAGE * _BYTES:
                return place
        return bisect_left(self._sorted, (oldest.prompt, number))

    def _around(self, at: int) -> range:
        return range(max(0, at - 1), min(len(self._sorted), at + 1))


def as_bytes(tokens: Sequence[int]) -> bytes:
    """Tokens as they are kept here: of a list, each takes nine times as much memory."""
    return array("i", tokens).tobytes()


def as_tokens(prompt: bytes) -> list[int]:
    """The tokens of as_bytes."""
    return memoryview(prompt).cast("i").tolist()


def common(a: bytes, b: bytes) -> int:
    """Bytes that both begin with."""
    low, high = 0, min(len(a), len(b))
    if a[:high] == b[:high]:
        return high
    while high - low > 1:  # the same up to `low`, not up to `high`
        middle = (low + high) // 2
        low, high = (middle, high) if a[low:middle] == b[low:middle] else (low, middle)
    return low
