"""Reading the log of one pod over several connections: no line is missed, and none is yielded twice.

Kubernetes resumes a log at a time (sinceTime, in whole seconds), not at a line. So lines are requested with timestamps, a new connection begins a
second before the newest line, and lines that were yielded before are recognised by their time and text.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster

_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")
_SECOND = 10**9
_IDLE_SECONDS = 60.0
_OVERLAP_SECONDS = 1  # stdout and stderr are two streams: their times may cross a little


@dataclass(frozen=True, slots=True)
class Line:
    """One line; `stamp` is its timestamp, empty for a message of Kubernetes in place of a log."""

    stamp: str
    text: str


class LogTail:
    """Reads the log of a pod from where the last call ended. One thread at a time.

    Args:
        cluster: where the pod is.
        pod: its name.
        tail: begin with so many of the last lines; None for all.
        since: begin with lines from this time on (RFC 3339).
    """

    def __init__(self, cluster: Cluster, pod: str, *, tail: int | None = None, since: str | None = None) -> None:
        self.pod = pod
        self._cluster = cluster
        self._tail = tail
        self._since = since
        self._newest: int | None = None
        self._partly = tail is not None or since is not None
        self._from: int | None = None  # older lines were not requested
        self._recent: deque[tuple[int, Line]] = deque()  # yielded, and recent enough to be sent again
        self._foreign: set[str] = set()

    def catch_up(self, *, ended: bool = False) -> Iterator[Line]:
        """The lines written so far.

        Args:
            ended: the container has ended: a last line without a newline is complete.

        Raises:
            ClusterError: it cannot be read, or the connection was lost: another call continues.
        """
        if self._tail == 0 and self._newest is None:  # find the line after which to begin
            for _ in self._new(1, follow=False, whole=not ended):
                pass
        else:
            yield from self._new(self._tail, follow=False, whole=not ended)
        self._tail = None

    def follow(self, idle_seconds: float = _IDLE_SECONDS) -> Iterator[Line]:
        """The lines written from now on, until the container or the connection ends. Call it after `catch_up`.

        Args:
            idle_seconds: ends after so long without a line: some kubelets stop following a rotated file.

        Raises:
            ClusterError: it cannot be read.
        """
        yield from self._new(None, follow=True, whole=True, idle_seconds=idle_seconds)

    def _new(
        self, tail: int | None, *, follow: bool, whole: bool, idle_seconds: float = _IDLE_SECONDS
    ) -> Iterator[Line]:
        since, yielded, resumed = self._since, Counter[Line](), self._newest is not None
        if self._newest is not None:
            tail, begin = None, self._newest // _SECOND - _OVERLAP_SECONDS
            since = datetime.fromtimestamp(begin, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            yielded.update(line for _, line in self._recent)
        answer = self._cluster.log(
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
            elif yielded[line]:
                yielded[line] -= 1
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
    """A line and its Unix time in nanoseconds; None without a timestamp."""
    stamp, _, text = raw.partition(" ")
    found = _STAMP.fullmatch(stamp)
    try:
        whole = datetime.fromisoformat(found[1] + found[3]) if found else None
    except ValueError:
        whole = None
    if found is None or whole is None:
        return Line("", raw), None
    return Line(stamp, text), int(whole.timestamp()) * _SECOND + int((found[2] or "").ljust(9, "0"))
