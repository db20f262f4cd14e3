"""A watch that outlives its connections: nothing is lost or told twice over reconnects, expired versions and restarts.

It knows every object as it was last told. After a gap it lists, and tells the difference. Takes callables; pure otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Literal, Protocol

from specbatch.cluster.client.errors import DROPPED, transient
from specbatch.cluster.client.kinds import Object
from specbatch.cluster.client.retry_policy import RetryPolicy
from specbatch.errors import ClusterError

Change = Literal["ADDED", "MODIFIED", "DELETED"]
Event = tuple[Change, Object]
Listing = tuple[list[Object], str]

_STREAM_SECONDS = 280.0  # below the five minutes after which proxies and the server itself end a request
_OUTAGE_SECONDS = 600.0
_GONE = 410


class Source(Protocol):
    """Where objects come from."""

    def list(self, seconds: float | None) -> Listing:
        """All objects, and the version of the whole. Tried for `seconds` at most."""

    def stream(self, version: str, seconds: float) -> Generator[bytes]:
        """Changes since a version as lines of JSON, for about so long. Raises at once where it cannot be opened."""

    def refused(self, status: Object) -> ClusterError:
        """What an ERROR event says."""


class Watch:
    """Changes of a source.

    Args:
        source: what is watched.
        seconds: how long; for ever where None. An outage of ten minutes ends it with its error.
        policy: the clock, and waits between tries.
    """

    def __init__(self, source: Source, seconds: float | None, policy: RetryPolicy) -> None:
        self._source = source
        self._policy = policy
        self._until = None if seconds is None else policy.clock() + seconds
        self._known: dict[tuple[str, str], Object] = {}
        self._version = ""
        self._failures = 0
        self._failing_since: float | None = None

    def events(self) -> Iterator[Event]:
        """Lists first, then whatever changes."""
        yield from self._listed(None if self._until is None else max(self._left(), 1.0))
        while self._left() > 0:
            try:
                if not self._version:
                    yield from self._listed(None if self._until is None else self._left())
                with closing(self._streamed()) as changes:
                    yield from changes
            except ClusterError as error:
                self._bear(error)
            else:
                self._failures += 1  # until something arrives again
            if self._failures > 1:
                self._policy.sleep(min(self._policy.backoff.seconds(self._failures - 1), max(self._left(), 0.0)))

    def _left(self) -> float:
        return float("inf") if self._until is None else self._until - self._policy.clock()

    def _bear(self, error: ClusterError) -> None:
        """Takes note of a failure; raises it when it will not pass."""
        now = self._policy.clock()
        since = self._failing_since = now if self._failing_since is None else self._failing_since
        self._failures += 1
        if error.status is not None:
            self._version = ""  # the server's own word: what it told before may not hold
        if error.status == _GONE:
            return
        if not transient(error) or now - since > _OUTAGE_SECONDS:
            raise error
        self._policy.outage(now - since)

    def _listed(self, seconds: float | None) -> Iterator[Event]:
        """The difference between what is known and what is there."""
        objects, version = self._source.list(seconds)
        found = {_key(item): item for item in objects}
        for key in [key for key, item in self._known.items() if _uid(found.get(key)) != _uid(item)]:
            yield "DELETED", self._known.pop(key)
        for key, item in found.items():
            before = self._known.get(key)
            self._known[key] = item
            if before is None:
                yield "ADDED", item
            elif _version(before) != _version(item):
                yield "MODIFIED", item
        self._version = version

    def _streamed(self) -> Generator[Event]:
        with closing(self._source.stream(self._version, min(self._left(), _STREAM_SECONDS))) as lines:
            self._policy.outage(None)
            self._failing_since = None
            for line in lines:
                kind, item = self._event(line)
                self._failures = 0
                self._version = _version(item)
                if kind != "BOOKMARK":
                    yield from self._changed(kind, item)
                if self._left() <= 0:
                    return

    def _event(self, line: bytes) -> tuple[Change | Literal["BOOKMARK"], Object]:
        """An event's type and object; raises what an ERROR event says."""
        try:
            event = json.loads(line)
            kind, item = event["type"], event["object"]
        except (ValueError, KeyError, TypeError) as error:
            raise ClusterError("a watch was cut off", reason=DROPPED) from error
        if kind == "ERROR":
            raise self._source.refused(item)
        return kind, item

    def _changed(self, kind: Change, item: Object) -> Iterator[Event]:
        key = _key(item)
        before = self._known.get(key)
        if kind == "DELETED":
            if self._known.pop(key, None) is not None:
                yield "DELETED", item
        else:
            self._known[key] = item
            yield ("ADDED" if before is None else "MODIFIED"), item


def _key(item: Object) -> tuple[str, str]:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


def _uid(item: Object | None) -> str | None:
    return item["metadata"].get("uid", "") if item is not None else None


def _version(item: Object) -> str:
    return str(item["metadata"].get("resourceVersion", ""))
