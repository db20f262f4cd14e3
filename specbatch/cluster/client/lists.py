"""Lists page by page, and the streams of changes that follow them: what a Watch watches."""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from itertools import count

from specbatch.cluster.client.connection import Connection, Query, lines
from specbatch.cluster.client.errors import Call, refused
from specbatch.cluster.client.kinds import Kind, Object
from specbatch.cluster.client.watch import Listing
from specbatch.errors import ClusterError

_PAGE = 500
_FRESH_STARTS = 3
# The server sends a bookmark about every minute, so a stream that is silent for longer is dead.
_IDLE_SECONDS = 90.0
_GONE = 410


@dataclass(frozen=True, slots=True)
class Objects:
    """Objects of a kind that a query picks.

    Args:
        connection: to ask over.
        kind: theirs.
        call: for errors.
        path: where the API has them.
        query: labelSelector and fieldSelector.
    """

    connection: Connection
    kind: Kind
    call: Call
    path: str
    query: Query

    def list(self, seconds: float | None = None) -> Listing:
        """All of them, and the version of the whole. Begins again when the pages expire in between."""
        for start in count():
            try:
                return self._pages(seconds)
            except ClusterError as error:
                if error.status != _GONE or start == _FRESH_STARTS:
                    raise
        raise AssertionError  # count() never ends

    def stream(self, version: str, seconds: float) -> Generator[bytes]:
        """Changes since `version`, one line of JSON each, for about so long."""
        query = [*self.query, ("watch", "true"), ("allowWatchBookmarks", "true"), ("resourceVersion", version)]
        query.append(("timeoutSeconds", str(math.ceil(seconds))))
        return lines(
            self.connection.chunks(
                self.call, self.path, query, idle_seconds=min(_IDLE_SECONDS, seconds), seconds=seconds
            )
        )

    def refused(self, status: Object) -> ClusterError:
        """What the Status in an ERROR event says."""
        return refused(self.call, int(status.get("code") or 500), json.dumps(status).encode())

    def _pages(self, seconds: float | None) -> Listing:
        items: list[Object] = []
        more = ""
        while True:
            query = [*self.query, ("limit", str(_PAGE)), *([("continue", more)] if more else [])]
            page = self.connection.json(self.call, "GET", self.path, query=query, seconds=seconds)
            # The items of a list do not say what they are, unlike objects that are got or watched.
            items += [
                {"apiVersion": self.kind.api_version, "kind": self.kind.name, **item}
                for item in page.get("items") or []
            ]
            more = page["metadata"].get("continue") or ""
            if not more:
                return items, str(page["metadata"].get("resourceVersion") or "")


def selectors(labels: Mapping[str, str] | None, fields: Mapping[str, str] | None) -> Query:
    """What picks objects with these labels and fields."""
    named = {"labelSelector": labels, "fieldSelector": fields}
    return [
        (name, ",".join(f"{key}={value}" for key, value in chosen.items())) for name, chosen in named.items() if chosen
    ]
