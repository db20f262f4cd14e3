"""What a test makes go wrong with requests to come."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Drop = Literal["", "before", "after", "middle"]


@dataclass
class Fault:
    """One thing that goes wrong, `times` times.

    Args:
        method: of the requests it hits; `*` for any.
        pattern: found in their path with its query: r"/jobs\\?.*watch=true".
        times: how often.
        status: HTTP status to answer with, in place of doing what is asked.
        reason, message: what Kubernetes says with it.
        retry_after: header, in seconds.
        body: an answer that is not of Kubernetes' making (a proxy's page).
        delay: seconds before anything happens.
        drop: the connection: before the request is looked at; after it was carried out; in the middle of a stream's next line.
        expired: a watch's ERROR event: 410.
    """

    method: str
    pattern: str
    times: int = 1
    status: int = 0
    reason: str = ""
    message: str = ""
    retry_after: int | None = None
    body: bytes | None = None
    delay: float = 0.0
    drop: Drop = ""
    expired: bool = False

    def hits(self, method: str, path: str) -> bool:
        """Whether it hits this request; counts it."""
        hit = self.times > 0 and self.method in {"*", method} and re.search(self.pattern, path) is not None
        self.times -= hit
        return hit
