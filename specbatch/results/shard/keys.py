"""Sets in little memory: ten million finished rows must not fill it."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

_MASK = (1 << 64) - 1
_FIRST_SLOTS = 1 << 10
_BLOCK_BITS = 13  # a block is a kilobyte
_IN_BLOCK = (1 << _BLOCK_BITS) - 1


class KeySet:
    """16-byte keys in 16 to 50 bytes each. Open addressing over two arrays of 64-bit halves; keys are hashes, so their own bits choose the slot."""

    def __init__(self) -> None:
        self._count = 0
        self._allocate(_FIRST_SLOTS)

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: bytes) -> bool:
        high, low = _halves(key)
        slot = self._slot(high, low)
        return self._high[slot] != 0 or self._low[slot] != 0

    def __iter__(self) -> Iterator[bytes]:
        for high, low in zip(self._high, self._low, strict=True):
            if high or low:
                yield (high << 64 | low).to_bytes(16, "big")

    def add(self, key: bytes) -> bool:
        """Adds a key of 16 bytes; whether it is new."""
        high, low = _halves(key)
        slot = self._slot(high, low)
        if self._high[slot] or self._low[slot]:
            return False
        self._high[slot], self._low[slot] = high, low
        self._count += 1
        if self._count * 3 > len(self._low) * 2:
            self._grow()
        return True

    def _slot(self, high: int, low: int) -> int:
        """Where the key is, or the empty slot where it belongs."""
        highs, lows, last = self._high, self._low, len(self._low) - 1
        slot = low & last
        while (lows[slot] != low or highs[slot] != high) and (lows[slot] or highs[slot]):
            slot = (slot + 1) & last
        return slot

    def _allocate(self, slots: int) -> None:
        self._high = array("Q", bytes(8 * slots))
        self._low = array("Q", bytes(8 * slots))

    def _grow(self) -> None:
        highs, lows = self._high, self._low
        self._allocate(2 * len(lows))
        for high, low in zip(highs, lows, strict=True):
            if high or low:
                slot = self._slot(high, low)
                self._high[slot], self._low[slot] = high, low


class IndexSet:
    """Whole numbers from 0, in a bit each where they lie close together."""

    def __init__(self) -> None:
        self._blocks: dict[int, bytearray] = {}

    def __contains__(self, index: int) -> bool:
        block = self._blocks.get(index >> _BLOCK_BITS)
        return block is not None and bool(block[(index & _IN_BLOCK) >> 3] >> (index & 7) & 1)

    def add(self, index: int) -> bool:
        """Adds a number; whether it is new."""
        block = self._blocks.get(index >> _BLOCK_BITS)
        if block is None:
            block = self._blocks[index >> _BLOCK_BITS] = bytearray(1 << (_BLOCK_BITS - 3))
        at, bit = (index & _IN_BLOCK) >> 3, 1 << (index & 7)
        new = not block[at] & bit
        block[at] |= bit
        return new


def _halves(key: bytes) -> tuple[int, int]:
    assert len(key) == 16
    number = int.from_bytes(key, "big") or 1  # all zeros marks an empty slot
    return number >> 64, number & _MASK
