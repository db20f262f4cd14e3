"""How far a download is, told while it goes on: a bar on a terminal, else a line every ten seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from specbatch.formatting import format_bytes, rough_duration

if TYPE_CHECKING:
    from rich.progress import TaskID

Say = Callable[[str], None]

_LINE_SECONDS = 10.0


class Progress:
    """Counts bytes of one model, and says a line now and then. Threads may share it.

    Args:
        say: shows a line.
        every: seconds between two lines.
        clock: seconds.
    """

    def __init__(self, say: Say, *, every: float = _LINE_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._say = say
        self._every = every
        self._clock = clock
        self._lock = threading.Lock()
        self._name, self._total, self._there, self._new = "", 0, 0, 0
        self._began = self._shown = clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left open."""

    def say(self, line: str) -> None:
        """Shows a line of another's."""
        self._say(line)

    def begin(self, name: str, total: int, there: int) -> None:
        """A model of `total` bytes, of which so many are here already and will be checked."""
        with self._lock:
            self._name, self._total, self._there, self._new = name, total, there, 0
            self._began = self._shown = self._clock()

    def advance(self, count: int) -> None:
        """So many further bytes are here and were read."""
        with self._lock:
            self._new += count
            now = self._clock()
            if now - self._shown < self._every:
                return
            self._shown = now
            line = self._line(now - self._began)
        self._say(line)

    def _line(self, seconds: float) -> str:
        rate = max(self._new, 0) / seconds if seconds > 0 else 0.0
        left = f", about {rough_duration((self._total - self._new) / rate)} left" if rate > 0 else ""
        return f"{self._name}: {format_bytes(max(self._new, 0))} of {format_bytes(self._total)}, {format_bytes(rate)}/s{left}"


class BarProgress(Progress):
    """A bar on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - only on a terminal
        from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn  # noqa: PLC0415 - as above
        from rich.progress import Progress as Bars  # noqa: PLC0415 - as above

        columns = (TextColumn("{task.description}"), BarColumn(None), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())  # fmt: skip
        self._bars = Bars(*columns, console=Console(stderr=True))
        self._task: TaskID | None = None
        super().__init__(self._bars.console.print)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def begin(self, name: str, total: int, there: int) -> None:
        """As Progress."""
        del there
        self._task = self._bars.add_task(name, total=total)

    def advance(self, count: int) -> None:
        """As Progress."""
        if self._task is not None:
            self._bars.advance(self._task, count)
