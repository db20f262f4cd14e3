"""One connection to an API server: authenticated requests for plain JSON, with retries.

It takes the library's client from a callable, and calls it again when credentials have expired.
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
        load: makes the library's ApiClient with the current credentials.
        failures: the exceptions of that client without a response.
        policy: of retries.
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
        """URL of the API server."""
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
        """The object in the response to a request."""

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
        """A response's body as it arrives. The request is sent at once, with retries.

        The iterator raises ClusterError when the connection is lost, or is silent for `idle_seconds`.
        """
        response = self.retried(lambda: self._send(call, "GET", path, query, None, "", idle_seconds), seconds=seconds)
        return self._body(call, response)

    def retried(self, once: Callable[[], T], *, repeatable: bool = True, seconds: float | None = None) -> T:
        """The result of `once`, with retries. Credentials that are not accepted are loaded again, once."""
        try:
            return with_retries(once, self.policy, repeatable=repeatable, known=self._answered, seconds=seconds)
        except ClusterError as error:
            if error.status != _UNAUTHORIZED:
                raise
        with self._lock:
            self.client = self._load()
        return with_retries(once, self.policy, repeatable=repeatable, known=self._answered, seconds=seconds)

    def headers(self) -> dict[str, str]:
        """User agent and authorization of every request. Refreshes expiring tokens (exec plugins, a pod's rotated file)."""
        with self._lock:
            settings = self.client.configuration.auth_settings().values()
        found = {str(setting["key"]).lower(): str(setting["value"]) for setting in settings if setting["value"]}
        return {"user-agent": f"specbatch/{__version__}", **found}

    def failed(self, call: Call, error: BaseException) -> ClusterError | TransientError:
        """The exception for a request without a response."""
        found = unreachable(call, error)
        return found if found.reason == TLS else TransientError(found, undone=found.reason == UNREACHABLE)

    def answered(
        self, call: Call, status: int, body: bytes, headers: Mapping[str, str]
    ) -> ClusterError | TransientError:
        """The exception for a response with an error status."""
        self._answered = True
        error = refused(call, status, body)
        after = headers.get("retry-after") or ""
        # 429 is answered before the request is processed.
        return (
            TransientError(error, after=float(after) if after.isdigit() else None, undone=status == 429)
            if transient(error)
            else error
        )

    def _send(
        self, call: Call, method: str, path: str, query: Query, body: Object | None, content_type: str, idle: float
    ) -> Any:
        url = f"{self.client.configuration.host}{path}" + (f"?{urlencode(query)}" if query else "")
        headers = {**self.headers(), "accept": "application/json, */*"}
        if body is not None:
            headers["Content-Type"] = content_type  # the library expects this spelling
        timeouts = (_CONNECT_SECONDS, idle)
        try:
            response = self.client.rest_client.request(
                method, url, headers=headers, body=body, _request_timeout=timeouts
            ).response
            if 200 <= response.status < 300:
                self._answered = True
                return response
            body_read = bytes(response.data)
        except self._failures as error:
            raise self.failed(call, error) from error
        raise self.answered(call, response.status, body_read, response.headers)

    def _body(self, call: Call, response: Any) -> Generator[bytes]:
        try:
            while data := response.read1(_CHUNK_BYTES):
                yield data
        except self._failures as error:
            raise unreachable(call, error) from error
        finally:
            response.close()


def lines(chunks: Generator[bytes], *, whole: bool = False) -> Generator[bytes]:
    """The lines in chunks, without newlines. A last line without a newline is yielded where the chunks end without an error, unless `whole`.

    Closes the chunks explicitly: a traceback's frames would keep the connection open.
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
    """The lines of a log. With `follow` a lost connection ends them; without, it is an error."""
    with closing(lines(chunks, whole=whole)) as found:
        try:
            for line in found:
                yield line.decode("utf-8", "replace")
        except ClusterError as error:
            if not (follow and transient(error)):
                raise
