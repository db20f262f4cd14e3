"""One connection to an API server: authenticated requests as plain JSON, tried again where that may help.

It takes the library's client from a callable: loading it again is how credentials that have expired are renewed.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from typing import Any, TypeVar
from urllib.parse import urlencode

from specbatch import __version__
from specbatch.cluster.client.errors import TLS, UNREACHABLE, Call, refused, transient, unreachable
from specbatch.cluster.client.kinds import Object
from specbatch.cluster.client.retry_policy import RetryPolicy, TransientError, with_retries
from specbatch.errors import ClusterError

T = TypeVar("T")
Query = Sequence[tuple[str, str]]

_CONNECT_SECONDS = 10.0
_READ_SECONDS = 30.0
_CHUNK_BYTES = 1 << 16
_UNAUTHORIZED = 401


class Connection:
    """Sends requests to one API server.

    Args:
        load: makes the library's ApiClient, with credentials as they are now.
        failures: what that client raises where there is no answer.
        policy: for tries again.
    """

    def __init__(self, load: Callable[[], Any], failures: tuple[type[BaseException], ...], policy: RetryPolicy) -> None:
        self.policy = policy
        self._load = load
        self._failures = failures
        self._lock = threading.Lock()
        self._answered = False
        self.client = load()

    @property
    def server(self) -> str:
        """Its URL."""
        return str(self.client.configuration.host)

    def json(
        self,
        call: Call,
        method: str,
        path: str,
        *,
        query: Query = (),
        body: Object | None = None,
        content_type: str = "application/json",
        repeatable: bool = True,
        seconds: float | None = None,
    ) -> Object:
        """The object that a request is answered with."""

        def once() -> bytes:
            response = self._send(call, method, path, query, body, content_type, _READ_SECONDS)
            try:
                return bytes(response.data)
            except self._failures as error:
                raise TransientError(unreachable(call, error)) from error

        answer = self.retried(once, repeatable=repeatable, seconds=seconds)
        try:
            content = json.loads(answer)
        except ValueError:
            content = None
        if not isinstance(content, dict):
            message = "what answers here is no Kubernetes API"
            raise ClusterError(
                message, where=self.server, remedy="check the server of the kubeconfig, and proxies in between"
            )
        return content

    def chunks(
        self, call: Call, path: str, query: Query, *, idle_seconds: float, seconds: float | None = None
    ) -> Generator[bytes]:
        """A response's body as it arrives. Opened at once, and tried again until it is.

        The iterator raises ClusterError when the connection is lost, or is silent for `idle_seconds`.
        """
        response = self.retried(lambda: self._send(call, "GET", path, query, None, "", idle_seconds), seconds=seconds)
        return self._body(call, response)

    def retried(self, once: Callable[[], T], *, repeatable: bool = True, seconds: float | None = None) -> T:
        """The result of `once`, tried again. Credentials that are not accepted are loaded anew, one time."""
        try:
            return with_retries(once, self.policy, repeatable=repeatable, known=self._answered, seconds=seconds)
        except ClusterError as error:
            if error.status != _UNAUTHORIZED:
                raise
        with self._lock:
            self.client = self._load()
        return with_retries(once, self.policy, repeatable=repeatable, known=self._answered, seconds=seconds)

    def headers(self) -> dict[str, str]:
        """Whom every request is from. Refreshes a token that runs out (login programs, a pod's rotated file)."""
        with self._lock:
            settings = self.client.configuration.auth_settings().values()
        found = {str(setting["key"]).lower(): str(setting["value"]) for setting in settings if setting["value"]}
        return {"user-agent": f"specbatch/{__version__}", **found}

    def failed(self, call: Call, error: BaseException) -> ClusterError | TransientError:
        """What to raise where there was no answer."""
        told = unreachable(call, error)
        return told if told.reason == TLS else TransientError(told, undone=told.reason == UNREACHABLE)

    def answered(
        self, call: Call, status: int, body: bytes, headers: Mapping[str, str]
    ) -> ClusterError | TransientError:
        """What to raise for an answer that is no success."""
        self._answered = True
        told = refused(call, status, body)
        after = headers.get("retry-after") or ""
        # 429 comes from in front of whatever would have carried the request out.
        return (
            TransientError(told, after=float(after) if after.isdigit() else None, undone=status == 429)
            if transient(told)
            else told
        )

    def _send(
        self, call: Call, method: str, path: str, query: Query, body: Object | None, content_type: str, idle: float
    ) -> Any:
        url = f"{self.client.configuration.host}{path}" + (f"?{urlencode(query)}" if query else "")
        headers = {**self.headers(), "accept": "application/json, */*"}
        if body is not None:
            headers["Content-Type"] = content_type  # the library looks it up in this spelling
        timeouts = (_CONNECT_SECONDS, idle)
        try:
            response = self.client.rest_client.request(
                method, url, headers=headers, body=body, _request_timeout=timeouts
            ).response
            if 200 <= response.status < 300:
                self._answered = True
                return response
            told = bytes(response.data)
        except self._failures as error:
            raise self.failed(call, error) from error
        raise self.answered(call, response.status, told, response.headers)

    def _body(self, call: Call, response: Any) -> Generator[bytes]:
        try:
            while data := response.read1(_CHUNK_BYTES):
                yield data
        except self._failures as error:
            raise unreachable(call, error) from error
        finally:
            response.close()


def lines(chunks: Generator[bytes], *, whole: bool = False) -> Generator[bytes]:
    """The lines in chunks, without their ends. A last one without an end is told only where the chunks end well.

    Not even then where only `whole` ones are wanted.

    Chunks are closed with it, explicitly: frames that an exception remembers would keep the connection open.
    """
    rest = bytearray()
    with closing(chunks):
        for chunk in chunks:
            start = 0
            while (end := chunk.find(b"\n", start)) >= 0:
                rest += chunk[start:end]
                yield bytes(rest)
                rest.clear()
                start = end + 1
            rest += chunk[start:]
        if rest and not whole:
            yield bytes(rest)


def log_lines(chunks: Generator[bytes], *, follow: bool, whole: bool) -> Generator[str]:
    """The lines of a log. One that is followed ends with its connection; another one is told as cut off."""
    with closing(lines(chunks, whole=whole)) as found:
        try:
            for line in found:
                yield line.decode("utf-8", "replace")
        except ClusterError as error:
            if not (follow and transient(error)):
                raise
