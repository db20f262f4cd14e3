"""Sorting any number of lines in bounded memory: sorted runs in temporary files, merged in several passes."""

from __future__ import annotations

import contextlib
import heapq
import io
import struct
import tempfile
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

MEMORY_BYTES = 64 << 20
FAN_IN = 64
_OVERHEAD_BYTES = 200  # of a line held: the tuple, two numbers, the bytes object
_BUFFER_BYTES = 1 << 17  # at most, and
_LEAST_BUFFER_BYTES = 1 << 12  # at least
_HEADER = struct.Struct("<QQQ")  # index, rank, bytes of the line that follows


Keyed = tuple[int, int, bytes]
"""(index, rank, line): no two have the same index and rank, both below 2**64. A plain tuple: lists of those sort fastest."""


class LineSorter:
    """Takes lines with `add`, gives them back in order with `sorted`, once.

    Replacement selection: what is held is sorted, its smaller half goes to the run at hand, and what comes too late for that waits
    for the next run. So lines that are nearly in order make one run, however many they are. Temporary files have no name: they
    are gone with the process, whatever ends it.

    Args:
        directory: where temporary files go.
        memory_bytes: about what is held; one line may be longer.
        fan_in: runs merged at once.

    Raises:
        OSError: a temporary file could not be written or read.
    """

    def __init__(self, directory: Path, *, memory_bytes: int = MEMORY_BYTES, fan_in: int = FAN_IN) -> None:
        assert fan_in > 1
        self._directory = directory
        self._memory_bytes = memory_bytes
        self._fan_in = fan_in
        self._buffer_bytes = max(_LEAST_BUFFER_BYTES, min(_BUFFER_BYTES, memory_bytes // (2 * fan_in)))
        self._held: list[Keyed] = []
        self._held_bytes = 0
        self._run: _Run | None = None  # the one being written
        self._last = (0, 0)  # the greatest key in it
        self._levels: list[list[_Run]] = [[]]  # [i]: runs that were merged i times
        self.spilled_bytes = 0

    def add(self, index: int, rank: int, line: bytes) -> None:
        """Takes one line."""
        self._held.append((index, rank, line))
        self._held_bytes += len(line) + _OVERHEAD_BYTES
        if self._held_bytes > self._memory_bytes:
            self._spill(self._memory_bytes // 2)

    def sorted(self) -> Iterator[Keyed]:
        """Every line in order of (index, rank)."""
        self._held.sort()
        if self._run is None and not any(self._levels):
            yield from self._held
            return
        while self._held:
            self._spill(0)
        self._finish_run()
        for level in range(len(self._levels)):
            if sum(map(len, self._levels)) > self._fan_in:
                self._merge_level(level)
        yield from _merged([run for level in self._levels for run in level])

    def close(self) -> None:
        """Removes the temporary files; a second call does nothing."""
        runs = [run for level in self._levels for run in level]
        for run in [*runs, *([self._run] if self._run else [])]:
            run.close()
        self._levels, self._run, self._held = [[]], None, []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _spill(self, kept_bytes: int) -> None:
        """Writes the smaller part of what is held, until so much is left or what is left came too late for the run at hand."""
        self._held.sort()
        if self._run is None:
            self._run = _Run(self._directory, self._buffer_bytes)
            self._last = (0, 0)
        late = bisect_left(self._held, self._last)
        end = late
        while end < len(self._held) and (self._held_bytes > kept_bytes or end == late):
            self._held_bytes -= len(self._held[end][2]) + _OVERHEAD_BYTES
            end += 1
        going = self._held[late:end]
        if going:
            self.spilled_bytes += self._run.write(going)
            self._last = going[-1][:2]
        if end == len(self._held):
            self._finish_run()
        del self._held[late:end]

    def _finish_run(self) -> None:
        """The run at hand is whole; full levels are merged, so that open files stay few."""
        if self._run is None:
            return
        self._levels[0].append(self._run)
        self._run = None
        for level in range(len(self._levels)):
            if len(self._levels[level]) >= self._fan_in:
                self._merge_level(level)

    def _merge_level(self, level: int) -> None:
        runs = self._levels[level]
        if len(runs) < 2:
            return
        if level + 1 == len(self._levels):
            self._levels.append([])
        merged = _Run(self._directory, self._buffer_bytes)
        self._levels[level + 1].append(merged)
        self.spilled_bytes += merged.write(_merged(runs))
        for run in runs:
            run.close()
        self._levels[level] = []


class _Run:
    """A temporary file without a name that is written, then read."""

    def __init__(self, directory: Path, buffer_bytes: int) -> None:
        self._buffer_bytes = buffer_bytes
        self._raw = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115 - it lives as long as the run
        self._stream: io.BufferedWriter | io.BufferedReader = io.BufferedWriter(self._raw, buffer_bytes)

    def write(self, rows: Iterable[Keyed]) -> int:
        """Appends rows, which are in order; how many bytes."""
        write, pack, size = self._stream.write, _HEADER.pack, 0
        for index, rank, line in rows:
            write(pack(index, rank, len(line)))
            write(line)
            size += _HEADER.size + len(line)
        return size

    def begin_reading(self) -> None:
        """No more is written: from the first row on."""
        self._stream.flush()
        self._stream.detach()
        self._raw.seek(0)
        self._stream = io.BufferedReader(self._raw, self._buffer_bytes)

    def keys(self) -> Iterator[tuple[int, int, int, _Run]]:
        """(index, rank, bytes of the line, self) of each row; whoever takes one calls `line` before taking the next."""
        read, unpack = self._stream.read, _HEADER.unpack
        while header := read(_HEADER.size):
            yield (*unpack(header), self)

    def line(self, size: int) -> bytes:
        """The line after the key that was taken last."""
        return self._stream.read(size)

    def close(self) -> None:
        """Gives the room back."""
        with contextlib.suppress(OSError):  # a full disk says again what it said before
            self._stream.close()
        self._raw.close()


def _merged(runs: Sequence[_Run]) -> Iterator[Keyed]:
    """The rows of all runs in order. Lines wait in their files until it is their turn: long ones are never held side by side."""
    for run in runs:
        run.begin_reading()
    # heapq.merge asks a run for its next key only after the last one was used, and keys are never equal.
    for index, rank, size, run in heapq.merge(*(run.keys() for run in runs)):
        yield index, rank, run.line(size)
