"""A real HTTP server on loopback that fails in every way a test asks for, and a little of S3 and of the model hub on top of it."""

from __future__ import annotations

import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Web:
    """Files by path, and what goes wrong.

    Attributes:
        files: path -> bytes.
        troubles: taken one by one, one for each request: an HTTP status, "reset", "hang", or
            ("cut", n): the connection is reset after n bytes of the body.
        always: a trouble for every GET once `troubles` is empty.
        troubles_from: only requests for bytes from there on meet troubles.
        ranges: whether it knows ranges.
        error_body, error_headers: of answers that are errors.
        bytes_per_second: of a body; None for at once.
        head_status: for every HEAD, where set.
        headers: of every file; PATH in a value becomes a hash of its path.
        headers_of: further ones, by path.
        requests: (method, path, range) as they came.
        bytes_sent: of bodies.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    troubles: list = field(default_factory=list)
    always: object = None
    troubles_from: int = 0
    ranges: bool = True
    error_body: bytes = b""
    error_headers: dict[str, str] = field(default_factory=dict)
    bytes_per_second: int | None = None
    head_status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    headers_of: dict[str, dict[str, str]] = field(default_factory=dict)
    requests: list = field(default_factory=list)
    bytes_sent: int = 0
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)
    released: threading.Event = field(default_factory=threading.Event)

    def next_trouble(self, asked: str | None) -> object:
        begin = int((asked or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        with self.lock:
            if begin < self.troubles_from:
                return None
            return self.troubles.pop(0) if self.troubles else self.always


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: Web

    def log_message(self, *_arguments: object) -> None:
        """Nothing."""

    def do_HEAD(self) -> None:
        if self.web.head_status is not None:
            self._answer(self.web.head_status, b"")
        else:
            self.do_GET()

    def do_GET(self) -> None:  # noqa: PLR0911 - a trouble a return
        web, path = self.web, self.path.partition("?")[0]
        web.requests.append((self.command, self.path, self.headers.get("Range")))
        trouble = web.next_trouble(self.headers.get("Range"))
        if trouble == "hang":
            web.released.wait(120)
            return self._reset()
        if trouble == "reset":
            return self._reset()
        if isinstance(trouble, int):
            return self._answer(trouble, web.error_body)
        data = web.files.get(path)
        if data is None:
            return self._answer(404, b"")
        begin, end, status = 0, len(data), 200
        asked = self.headers.get("Range")
        if asked and web.ranges:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            begin, end, status = int(first), min(int(last or len(data)) + 1, len(data)), 206
        self.send_response(status)
        self.send_header("Content-Length", str(end - begin))
        if status == 206:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(data)}")
        for name, value in {**web.headers, **web.headers_of.get(path, {})}.items():
            self.send_header(name, value.replace("PATH", f"{zlib.crc32(path.encode()):08x}"))
        self.end_headers()
        if self.command == "HEAD":
            return None
        body = data[begin:end]
        if isinstance(trouble, tuple) and len(body) > trouble[1]:
            self.wfile.write(body[: trouble[1]])
            web.bytes_sent += trouble[1]
            time.sleep(0.05)  # what was sent is read before the reset
            return self._reset()
        self._send(body)
        web.bytes_sent += len(body)
        return None

    def _send(self, body: bytes) -> None:
        for start in range(0, len(body), step := 1 << 18):
            self.wfile.write(body[start : start + step])
            if self.web.bytes_per_second:
                time.sleep(step / self.web.bytes_per_second)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in self.web.error_headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_arguments: object) -> None:
        """A client that went away is what the tests are about."""


@contextmanager
def serving(**settings: object) -> Iterator[Web]:
    """A running server; `settings` are Web's."""
    web = Web(**settings)
    handler = type("Handler", (_Handler,), {"web": web})
    server = _Server(("127.0.0.1", 0), handler)
    web.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield web
    finally:
        web.released.set()
        server.shutdown()
        server.server_close()
