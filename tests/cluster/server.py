"""A Kubernetes API server on loopback: kmock's HTTP, our own objects (kmock 0.8 keeps no uids, ignores selectors and dryRun).

It runs in a thread, so synchronous tests use it. What it does is what kube-apiserver 1.36 does, as far as it does it;
no controllers run, except that what a deleted object owned is deleted too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import aiohttp.web
import kmock

from specbatch.backoff import Backoff
from specbatch.cluster.client import kinds
from specbatch.cluster.client.client import Cluster
from specbatch.cluster.client.flags import Flags
from specbatch.cluster.client.kinds import Kind
from specbatch.cluster.client.retry_policy import RetryPolicy
from tests.cluster.faults import Fault
from tests.cluster.routes import Routes, kind_key
from tests.cluster.store import Object, Store
from tests.cluster.streams import Streams

TOKEN = "a-token"
_BUILT_IN = [kind for kind in vars(kinds).values() if isinstance(kind, Kind) and not kind.group.startswith("kueue")]


class FakeTime:
    """Real time, but sleeping takes none of it."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    def clock(self) -> float:
        return time.monotonic() + sum(self.waits)

    def policy(self) -> RetryPolicy:
        longest = Backoff(first=0.25, longest=8.0, random=lambda _low, high: high)
        return RetryPolicy(sleep=self.sleep, clock=self.clock, backoff=longest)


class ApiServer:
    """The server, and what a test does to it.

    Attributes:
        kubeconfig: path of one with a token for it; its context is `test`, its namespace `default`.
        logs: text of each pod's log; `pod/container` for one container.
            A line's timestamp is 2026-01-01T00:00:00Z and a second for each line before it.
        commands: what exec does: (pod, container, command) -> (stdout, stderr, exit code).
        requests: (method, path, query) of each so far.
        token: the one that is accepted.
        time: of the Clusters of `cluster()`: `time.waits` has how long they waited to try again.
    """

    def __init__(self, folder: Path) -> None:
        self.logs: dict[str, str] = {}
        self.commands: Callable[[str, str, list[str]], tuple[bytes, bytes, int]] | None = None
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.token = TOKEN
        self.time = FakeTime()
        self.store = Store(self._changed)
        self.kinds = {kind_key(kind): kind for kind in _BUILT_IN}
        self.kubeconfig = str(folder / "kubeconfig")
        self._denied: set[tuple[str, str]] = set()
        self.faults: list[Fault] = []
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._streams = Streams(self)
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(10), "the API server does not start"
        for name in ("default", "kube-system"):
            self.put(kinds.NAMESPACES, {"metadata": {"name": name}, "status": {"phase": "Active"}})
        self.write_kubeconfig()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Nobody answers any more; a stopped one may be stopped again."""
        if not self._thread.is_alive():
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(70)  # aiohttp gives requests that are still open a minute
        assert not self._thread.is_alive(), "the API server does not stop"

    def write_kubeconfig(self, **user: Any) -> None:
        """Writes it anew, after `url` or so has changed."""
        Path(self.kubeconfig).write_text(json.dumps(self.config(**user)))

    def config(self, **user: Any) -> Object:
        """A kubeconfig; `user` in place of the token."""
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "here", "user": "tester", "namespace": "default"}}],
            "clusters": [{"name": "here", "cluster": {"server": self.url}}],
            "users": [{"name": "tester", "user": user or {"token": TOKEN}}],
        }

    def cluster(self, namespace: str = "default", *, real_time: bool = False) -> Cluster:
        """Connected to it; waits between tries take no time, except in `real_time`."""
        policy = None if real_time else self.time.policy()
        cluster = Cluster.connect(kubeconfig=self.kubeconfig, namespace=namespace, policy=policy)
        cluster.flags = Flags(
            namespace=None if namespace == "default" else namespace
        )  # as if it were the current context
        return cluster

    def put(self, kind: Kind, item: Mapping[str, Any]) -> Object:
        """Creates or replaces an object, status and all; in namespace `default` where it names none."""
        self.kinds[kind_key(kind)] = kind
        namespace = item["metadata"].get("namespace", "default") if kind.namespaced else ""
        return self.store.put(kind_key(kind), namespace, {"apiVersion": kind.api_version, "kind": kind.name, **item})

    def remove(self, kind: Kind, name: str, namespace: str = "default") -> None:
        """Deletes an object, and what it owns."""
        self.store.delete((kind_key(kind), namespace if kind.namespaced else "", name))

    def objects(self, kind: Kind) -> list[Object]:
        """All of a kind, by namespace and name."""
        return self.store.all(kind_key(kind))

    def deny(self, verb: str, plural: str) -> None:
        """No permission for a verb on a plural, or on one with its subresource: pods/log."""
        self._denied.add((verb, plural))

    def fail(self, method: str, pattern: str, **fault: Any) -> None:
        """Makes requests to come fail: see Fault. The first that hits counts."""
        self.faults.append(Fault(method, pattern, **fault))

    def denied(self, verb: str, plural: str) -> bool:
        return (verb, plural) in self._denied

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._run())

    async def _run(self) -> None:
        handler = _Handler()
        handler.routes = Routes(self, self._streams)
        async with handler, kmock.Server(handler) as server:
            self.url = str(server.url).rstrip("/")
            self._started.set()
            await self._stopping.wait()
            await self._streams.stop()

    def _changed(self) -> None:
        if self._started.is_set() and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._streams.wake)


class _Handler(kmock.RawHandler):
    """kmock's HTTP side with answers of ours."""

    routes: Routes

    async def _handle(self, request: kmock.Request) -> aiohttp.web.StreamResponse:
        return await self.routes.answer(request._raw_request)
