"""Answers of the API server that go on for a while: watches, logs, commands in containers."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from typing import TYPE_CHECKING

import aiohttp.web

from tests.cluster.faults import Fault
from tests.cluster.selectors import selector
from tests.cluster.store import Object, RefusedError, Resource

if TYPE_CHECKING:
    from tests.cluster.server import ApiServer

_LOOK_SECONDS = 0.01
_FRAME_BYTES = 32768
_FIRST_LINE = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
_DONE = {"Succeeded", "Failed"}


class Streams:
    """The long answers of an ApiServer; they end when it stops."""

    def __init__(self, api: ApiServer) -> None:
        self._api = api
        self._stopped = False
        self._running = 0
        self._waiting: set[asyncio.Event] = set()

    def wake(self) -> None:
        """There is something new to tell."""
        for event in self._waiting:
            event.set()

    async def stop(self) -> None:
        self._stopped = True
        self.wake()

    async def sleep(self, seconds: float) -> None:
        """A delay; a stop ends it."""
        until = asyncio.get_running_loop().time() + seconds
        while (left := until - asyncio.get_running_loop().time()) > 0 and not self._stopped:
            await self._news(left)

    async def watch(
        self, raw: aiohttp.web.BaseRequest, resource: Resource, namespace: str, query: dict[str, str], fault: Fault
    ) -> aiohttp.web.StreamResponse:
        chosen = selector(resource, query.get("labelSelector", ""), query.get("fieldSelector", ""))
        until = asyncio.get_running_loop().time() + float(query.get("timeoutSeconds", 60))
        response = aiohttp.web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(raw)
        version = int(query.get("resourceVersion") or 0)
        try:
            while not self._stopped and (left := until - asyncio.get_running_loop().time()) > 0:
                with self._api.store.lock:
                    now = self._api.store.version
                    events = self._events(resource, namespace, chosen, version, expired=fault.expired)
                for event in events:
                    line = json.dumps(event).encode() + b"\n"
                    if fault.drop == "middle":
                        await response.write(line[: len(line) // 2])
                        raw.transport.abort()
                        return response
                    await response.write(line)
                    if event["type"] == "ERROR":
                        return response
                version = now
                if self._api.store.version == now:  # else there was news while events were written
                    await self._news(left)
            if query.get("allowWatchBookmarks") == "true" and not self._stopped:
                kind = self._api.kinds[resource]
                bookmark = {
                    "kind": kind.name,
                    "apiVersion": kind.api_version,
                    "metadata": {"resourceVersion": str(version)},
                }
                await response.write(json.dumps({"type": "BOOKMARK", "object": bookmark}).encode() + b"\n")
        except ConnectionError:
            pass  # the client has seen enough
        return response

    async def log(
        self, raw: aiohttp.web.BaseRequest, pod: Object, query: dict[str, str], fault: Fault
    ) -> aiohttp.web.StreamResponse:
        name, container = pod["metadata"]["name"], query.get("container", "")
        _check_container(pod, container)
        keys = [f"{name}/{container}", name]
        response = aiohttp.web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(raw)
        told, left, first = 0, int(query.get("limitBytes", 1 << 40)), True
        try:
            while True:
                ended = query.get("follow") != "true" or self._stopped or self._ended(pod)
                text = next((self._api.logs[key] for key in keys if key in self._api.logs), "")
                lines = text.splitlines(keepends=True)
                whole = len(lines) if ended or text.endswith("\n") else max(len(lines) - 1, 0)
                start = max(told, whole - int(query["tailLines"])) if first and "tailLines" in query else told
                data = b"".join(_stamped(lines[index], index, query) for index in range(start, whole))[:left]
                told, left, first = max(told, whole), left - len(data), False
                if data and fault.drop == "middle":
                    await response.write(data[:-3])
                    raw.transport.abort()
                    return response
                if data:
                    await response.write(data)
                if ended or not left:
                    return response
                await self._news(_LOOK_SECONDS)
        except ConnectionError:
            return response

    async def exec(self, raw: aiohttp.web.BaseRequest, pod: Object, fault: Fault) -> aiohttp.web.StreamResponse:
        name, container = pod["metadata"]["name"], raw.query.get("container", "")
        _check_container(pod, container)
        if self._api.commands is None:
            raise RefusedError(500, "InternalError", "the test sets no api.commands")
        socket = aiohttp.web.WebSocketResponse(protocols=("v5.channel.k8s.io", "v4.channel.k8s.io"))
        await socket.prepare(raw)
        command = raw.query.getall("command")
        listening = asyncio.create_task(_listen(socket))
        stdout, stderr, code = await asyncio.to_thread(self._api.commands, name, container, command)
        if fault.drop == "middle":
            await socket.send_bytes(b"\x01" + stdout[: len(stdout) // 2])
            raw.transport.abort()
            return socket
        for channel, data in ((b"\x01", stdout), (b"\x02", stderr)):
            for start in range(0, len(data), _FRAME_BYTES):
                await socket.send_bytes(channel + data[start : start + _FRAME_BYTES])
        status: Object = {"metadata": {}, "status": "Success"}
        if code:
            message = f"command terminated with non-zero exit code: exit status {code}"
            details = {"causes": [{"reason": "ExitCode", "message": str(code)}]}
            status = {
                "metadata": {},
                "status": "Failure",
                "reason": "NonZeroExitCode",
                "message": message,
                "details": details,
            }
        await socket.send_bytes(b"\x03" + json.dumps(status).encode())
        listening.cancel()
        await socket.close()
        return socket

    def _events(self, resource: Resource, namespace: str, chosen, version: int, *, expired: bool) -> list[Object]:
        """What is new since a version; everything there is, since version 0."""
        store = self._api.store
        with store.lock:
            if expired or 0 < version < store.forgotten:
                message = f"too old resource version: {version} ({store.version})"
                return [{"type": "ERROR", "object": RefusedError(410, "Expired", message).status}]
            if not version:
                return [{"type": "ADDED", "object": item} for item in store.all(resource, namespace) if chosen(item)]
            events = []
            for number, change, key, item, before in store.history:
                if number > version and key[0] == resource and namespace in {"", key[1]}:
                    was, remains = before is not None and chosen(before), change != "DELETED" and chosen(item)
                    told = {(True, True): "MODIFIED", (False, True): "ADDED", (True, False): "DELETED"}.get(
                        (was, remains)
                    )
                    events += [{"type": told, "object": item}] if told else []
            return events

    def _ended(self, pod: Object) -> bool:
        """Whether a pod writes no more."""
        try:
            now = self._api.store.get((("v1", "pods"), pod["metadata"]["namespace"], pod["metadata"]["name"]))
        except RefusedError:
            return True
        return now.get("status", {}).get("phase") in _DONE

    async def _news(self, seconds: float) -> None:
        """Waits for news, at most so long."""
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            await asyncio.wait_for(event.wait(), seconds)
        except TimeoutError:
            pass
        finally:
            self._waiting.discard(event)


async def _listen(socket: aiohttp.web.WebSocketResponse) -> None:
    """Answers pings: aiohttp does so while it reads."""
    async for _ in socket:
        pass


def _check_container(pod: Object, container: str) -> None:
    """Of a pod that says which containers it has."""
    names = [item["name"] for item in pod.get("spec", {}).get("containers", [])]
    if names and container not in names:
        raise RefusedError(400, "BadRequest", f"container {container} is not valid for pod {pod['metadata']['name']}")


def _stamped(line: str, index: int, query: dict[str, str]) -> bytes:
    """A line as the query wants it: nothing when it is older, with its time in front."""
    at = _FIRST_LINE + dt.timedelta(seconds=index)
    if "sinceTime" in query and at < dt.datetime.fromisoformat(query["sinceTime"]).replace(microsecond=0):
        return b""
    stamp = f"{at:%Y-%m-%dT%H:%M:%S}.000000000Z " if query.get("timestamps") == "true" else ""
    return f"{stamp}{line}".encode()
