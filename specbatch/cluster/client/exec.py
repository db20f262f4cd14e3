"""A command in a container over a websocket: its standard output as bytes; it raises unless the exit code is 0.

The protocol (v5.channel.k8s.io; v4 is the same here): every frame begins with the number of its channel. Frames are read here because the
library's own loop collects all output in memory, and results are gigabytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from specbatch.errors import ClusterError

IDLE_SECONDS = 30.0
_STDOUT, _STDERR, _STATUS = 1, 2, 3
_STDERR_BYTES = 4096
_PINGS = 5  # unanswered pings after which the connection is lost
_TEXT, _BINARY, _CLOSE = 1, 2, 8  # RFC 6455's numbers
_FAILED = "CommandFailed"


def output(socket: Any, pod: str, command: Sequence[str]) -> Iterator[bytes]:
    """Standard output of the command.

    Args:
        socket: a websocket.WebSocket, open, with a timeout of IDLE_SECONDS.
        pod: for errors.
        command: for errors.

    Raises:
        ClusterError: the command failed (with the end of its stderr), or the connection was lost before its end.
    """
    said, status = bytearray(), b""
    try:
        for channel, data in _frames(socket):
            if channel == _STDOUT and data:
                yield data
            elif channel == _STDERR:
                said += data
                del said[:-_STDERR_BYTES]
            elif channel == _STATUS:
                status += data
    finally:
        socket.shutdown()  # `close` would leave it open where the server has closed it
    _judge(status, pod, command, said.decode("utf-8", "replace").strip())


def _frames(socket: Any) -> Iterator[tuple[int, bytes]]:
    """(channel, data) until the connection ends. A silent connection is pinged."""
    from websocket import WebSocketException, WebSocketTimeoutException  # noqa: PLC0415 - as slow as kubernetes

    lost = (WebSocketException, OSError)
    unanswered = 0
    while True:
        try:
            opcode, frame = socket.recv_data_frame(True)
            unanswered = 0
        except WebSocketTimeoutException:
            if unanswered == _PINGS:
                return
            try:
                socket.ping()
            except lost:
                return
            unanswered += 1
            continue
        except lost:
            return
        if opcode == _CLOSE:
            return
        if opcode in {_TEXT, _BINARY} and frame.data:
            yield frame.data[0], bytes(frame.data[1:])


def _judge(status: bytes, pod: str, command: Sequence[str], said: str) -> None:
    """Raises unless the command ended with 0."""
    name = command[0] if command else "the command"
    if not status:
        message = f"the connection to pod {pod} was lost while {name} ran there" + (f": {said}" if said else "")
        raise ClusterError(message, remedy="try again; is the pod still there?")
    try:
        answer = json.loads(status)
    except ValueError:
        answer = {"message": status.decode("utf-8", "replace")}
    if answer.get("status") == "Success":
        return
    causes = (answer.get("details") or {}).get("causes") or []
    code = next((cause.get("message") for cause in causes if cause.get("reason") == "ExitCode"), None)
    why = f"ended with exit code {code}" if code is not None else str(answer.get("message") or "failed")
    raise ClusterError(f"{name} in pod {pod} {why}" + (f": {said}" if said else ""), reason=_FAILED)
