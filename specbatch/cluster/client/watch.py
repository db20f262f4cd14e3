"""Lists, page by page, and watches that outlive their connections.

A watch reports no change twice and misses none over reconnects, expired versions and restarts of the API server: it keeps every object as last
reported, and after a gap it lists and reports the difference.
"""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

from specbatch.cluster.client.connection import Connection, Query, lines
from specbatch.cluster.client.errors import DROPPED, Call, refused, transient
from specbatch.cluster.client.kinds import Kind, Object
from specbatch.cluster.client.retry_policy import OUTAGE_SECONDS
from specbatch.errors import ClusterError

Change = Literal["ADDED", "MODIFIED", "DELETED"]
Event = tuple[Change, Object]
Listing = tuple[list[Object], str]
"""Objects, and the resourceVersion of their list."""

_PAGE = 500
_LIST_ATTEMPTS = 4
_STREAM_SECONDS = 280.0  # below the five minutes after which proxies and the server itself end a request
# The server sends a bookmark about every minute, so a stream that is silent for longer is dead.
_IDLE_SECONDS = 90.0
_GONE = 410


@dataclass(frozen=True, slots=True)
class Objects:
    """Objects of a kind that a query selects.

    Args:
        connection: to the API server.
        kind: of the objects.
        call: for errors.
        path: in the API.
        query: labelSelector and fieldSelector.
    """

    connection: Connection
    kind: Kind
    call: Call
    path: str
    query: Query

    def list(self, seconds: float | None = None) -> Listing:
        """All objects, and the resourceVersion of the list. Starts again when the pages expire in between."""
        for attempt in range(1, _LIST_ATTEMPTS + 1):
            try:
                return self._pages(seconds)
            except ClusterError as error:
                if error.status != _GONE or attempt == _LIST_ATTEMPTS:
                    raise
        raise AssertionError  # the last attempt returns or raises

    def stream(self, version: str, seconds: float) -> Generator[bytes]:
        """Changes since a resourceVersion, one line of JSON each, for about so long. Raises at once where it cannot be opened."""
        query = [*self.query, ("watch", "true"), ("allowWatchBookmarks", "true"), ("resourceVersion", version)]
        query.append(("timeoutSeconds", str(math.ceil(seconds))))
        idle = min(_IDLE_SECONDS, seconds)
        return lines(self.connection.chunks(self.call, self.path, query, idle_seconds=idle, seconds=seconds))

    def _pages(self, seconds: float | None) -> Listing:
        items: list[Object] = []
        more = ""
        while True:
            query = [*self.query, ("limit", str(_PAGE)), *([("continue", more)] if more else [])]
            page = self.connection.json(self.call, "GET", self.path, query=query, seconds=seconds)
            # The items of a list lack apiVersion and kind, unlike objects that are read or watched.
            kind = {"apiVersion": self.kind.api_version, "kind": self.kind.name}
            items += [{**kind, **item} for item in page.get("items") or []]
            more = page["metadata"].get("continue") or ""
            if not more:
                return items, str(page["metadata"].get("resourceVersion") or "")


class Watch:
    """Changes of objects.

    Args:
        objects: what is watched.
        seconds: how long; None for ever. An outage of ten minutes ends it with the error of the last attempt.
    """

    def __init__(self, objects: Objects, seconds: float | None) -> None:
        self._objects = objects
        self._policy = objects.connection.policy
        self._until = math.inf if seconds is None else self._policy.clock() + seconds
        self._known: dict[tuple[str, str], Object] = {}
        self._version = ""
        self._failures = 0
        self._failing_since: float | None = None

    def events(self) -> Iterator[Event]:
        """The objects that exist, each as ADDED, then every change."""
        yield from self._listed(max(self._left(), 1.0))
        while self._left() > 0:
            if self._failing_since is None:
                self._failing_since = (
                    self._policy.clock()
                )  # until the stream is open: an attempt may take half a minute
            try:
                if not self._version:
                    yield from self._listed(self._left())
                with closing(self._streamed()) as changes:
                    yield from changes
            except ClusterError as error:
                self._failed(error)
            else:
                self._failures += 1  # until an event arrives
            if self._failures > 1:
                self._policy.sleep(min(self._policy.backoff.seconds(self._failures - 1), max(self._left(), 0.0)))

    def _left(self) -> float:
        return self._until - self._policy.clock()

    def _failed(self, error: ClusterError) -> None:
        """Counts a transient failure; raises any other, and one after an outage of ten minutes."""
        now = self._policy.clock()
        since = self._failing_since = now if self._failing_since is None else self._failing_since
        self._failures += 1
        if error.status is not None:
            self._version = ""  # an answer of the server, not a lost connection: the version may be void
        if error.status == _GONE:
            return
        if not transient(error) or now - since > OUTAGE_SECONDS:
            raise error
        self._policy.outage(now - since)

    def _listed(self, seconds: float) -> Iterator[Event]:
        """The difference between the known objects and those that exist."""
        objects, self._version = self._objects.list(None if seconds == math.inf else seconds)
        found = {_key(item): item for item in objects}
        for key in [key for key, item in self._known.items() if _uid(found.get(key)) != _uid(item)]:
            yield "DELETED", self._known.pop(key)
        for key, item in found.items():
            before = self._known.get(key)
            self._known[key] = item
            if before is None or _version(before) != _version(item):
                yield "ADDED" if before is None else "MODIFIED", item

    def _streamed(self) -> Generator[Event]:
        with closing(self._objects.stream(self._version, min(self._left(), _STREAM_SECONDS))) as stream:
            self._policy.outage(None)
            self._failing_since = None
            for line in stream:
                kind, item = self._parsed(line)
                self._failures = 0
                self._version = _version(item)
                if kind == "DELETED" and self._known.pop(_key(item), None) is not None:
                    yield "DELETED", item
                elif kind in {"ADDED", "MODIFIED"}:
                    before = self._known.get(_key(item))
                    self._known[_key(item)] = item
                    yield "ADDED" if before is None else "MODIFIED", item
                if self._left() <= 0:
                    return

    def _parsed(self, line: bytes) -> tuple[Change | Literal["BOOKMARK"], Object]:
        """Type and object of an event; raises the error that an ERROR event carries."""
        try:
            event = json.loads(line)
            kind, item = event["type"], event["object"]
        except (ValueError, KeyError, TypeError) as error:
            raise ClusterError("a watch was cut off", reason=DROPPED) from error
        if kind == "ERROR":
            raise refused(self._objects.call, int(item.get("code") or 500), json.dumps(item).encode())
        return kind, item


def selectors(labels: Mapping[str, str] | None, fields: Mapping[str, str] | None) -> Query:
    """The query for objects with these labels and fields."""
    named = {"labelSelector": labels, "fieldSelector": fields}
    return [
        (name, ",".join(f"{key}={value}" for key, value in chosen.items())) for name, chosen in named.items() if chosen
    ]


def _key(item: Object) -> tuple[str, str]:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


def _uid(item: Object | None) -> str | None:
    return item["metadata"].get("uid", "") if item is not None else None


def _version(item: Object) -> str:
    return str(item["metadata"].get("resourceVersion", ""))
