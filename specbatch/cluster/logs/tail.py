"""The log of one pod, read in as many pieces as connections last: no line is lost, and none is told twice.

Kubernetes resumes a log at a time (sinceTime, in whole seconds), not at a line. So every line is asked for with its time, a new
piece begins a moment before the newest line, and lines that were told before are known by their time and text.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")
_SECOND = 10**9
_IDLE_SECONDS = 60.0
_OVERLAP_SECONDS = 1  # stdout and stderr are written by two: their times may cross a little


class LogSource(Protocol):
    """What is needed of a Cluster."""

    def log(
        self,
        pod: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: str | None = None,
        timestamps: bool = False,
        whole_lines: bool = False,
        idle_seconds: float = ...,
    ) -> Iterator[str]:
        """Lines of the pod's log; with `whole_lines` not the last, if it has no end yet. Ends after `idle_seconds` of silence."""
        ...


@dataclass(frozen=True, slots=True)
class Line:
    """One line; `stamp` as Kubernetes gives it, empty for what it says itself in place of a log."""

    stamp: str
    text: str


class LogTail:
    """Reads the log of a pod onwards from where it got to. One thread at a time.

    Args:
        source: the cluster.
        pod: whose log.
        tail: begin with so many of the last lines. None: with all.
        since: begin with lines from this time on (RFC 3339).
    """

    def __init__(self, source: LogSource, pod: str, *, tail: int | None = None, since: str | None = None) -> None:
        self.pod = pod
        self._source = source
        self._tail = tail
        self._since = since
        self._newest: int | None = None
        self._partly = tail is not None or since is not None
        self._from: int | None = None  # older lines than this were not asked for
        self._recent: deque[tuple[int, Line]] = deque()  # told, and young enough to be told again
        self._foreign: set[str] = set()

    def catch_up(self, *, ended: bool = False) -> Iterator[Line]:
        """What there is by now.

        Args:
            ended: the container writes no more: a last line without its end is one, too.

        Raises:
            ClusterError: it cannot be read, or the connection was lost: another call goes on.
        """
        if self._tail == 0 and self._newest is None:  # behind which line does it all begin?
            for _ in self._new(1, follow=False, whole=not ended):
                pass
        else:
            yield from self._new(self._tail, follow=False, whole=not ended)
        self._tail = None

    def follow(self, idle_seconds: float = _IDLE_SECONDS) -> Iterator[Line]:
        """What is written from now on, until the container or the connection ends. Call it after `catch_up`.

        Args:
            idle_seconds: it ends after so long without a line: where a file is rotated, some kubelets tell no more of it.

        Raises:
            ClusterError: it cannot be read.
        """
        yield from self._new(None, follow=True, whole=True, idle_seconds=idle_seconds)

    def _new(
        self, tail: int | None, *, follow: bool, whole: bool, idle_seconds: float = _IDLE_SECONDS
    ) -> Iterator[Line]:
        since, told, resumed = self._since, Counter[Line](), self._newest is not None
        if self._newest is not None:
            tail, begin = None, self._newest // _SECOND - _OVERLAP_SECONDS
            since = datetime.fromtimestamp(begin, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            told.update(line for _, line in self._recent)
        answer = self._source.log(
            self.pod,
            follow=follow,
            tail=tail,
            since=since,
            timestamps=True,
            whole_lines=whole,
            idle_seconds=idle_seconds,
        )
        for raw in answer:
            line, at = _parsed(raw)
            if at is None:
                if line.text not in self._foreign:
                    self._foreign.add(line.text)
                    yield line
            elif told[line]:
                told[line] -= 1
            elif not (resumed and self._from is not None and at < self._from):
                self._remember(at, line)
                yield line

    def _remember(self, at: int, line: Line) -> None:
        if self._newest is None:
            self._newest = at
            self._from = at if self._partly else None
        self._newest = max(self._newest, at)
        self._recent.append((at, line))
        while self._recent[0][0] // _SECOND < self._newest // _SECOND - _OVERLAP_SECONDS:
            self._recent.popleft()


def _parsed(raw: str) -> tuple[Line, int | None]:
    """A line and its Unix time in nanoseconds; None where it has none."""
    stamp, _, text = raw.partition(" ")
    found = _STAMP.fullmatch(stamp)
    try:
        whole = datetime.fromisoformat(found[1] + found[3]) if found else None
    except ValueError:
        whole = None
    if found is None or whole is None:
        return Line("", raw), None
    return Line(stamp, text), int(whole.timestamp()) * _SECOND + int((found[2] or "").ljust(9, "0"))
