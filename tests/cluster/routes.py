"""What the API server answers to each request: the verbs of Kubernetes over a Store."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import aiohttp.web

from specbatch.cluster.client.kinds import Kind
from tests.cluster.faults import Fault
from tests.cluster.selectors import selector
from tests.cluster.store import Object, RefusedError, Resource, merged
from tests.cluster.streams import Streams

if TYPE_CHECKING:
    from tests.cluster.server import ApiServer

_VERBS = {"POST": "create", "PATCH": "patch", "DELETE": "delete", "GET": "get"}
_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


def kind_key(kind: Kind) -> Resource:
    """Where the store has a kind's objects."""
    return kind.api_version, kind.plural


class Routes:
    """Answers for an ApiServer."""

    def __init__(self, api: ApiServer, streams: Streams) -> None:
        self._api = api
        self._streams = streams

    async def answer(self, raw: aiohttp.web.BaseRequest) -> aiohttp.web.StreamResponse:
        query = dict(raw.query)
        self._api.requests.append((raw.method, raw.path, query))
        fault = next((fault for fault in self._api.faults if fault.hits(raw.method, raw.path_qs)), None) or Fault(
            "", ""
        )
        await self._streams.sleep(fault.delay)
        if fault.drop == "before":
            return _dropped(raw)
        try:
            if fault.status:
                return _failed(fault)
            self._authenticate(raw)
            response = await self._route(raw, query, fault)
        except RefusedError as refused:
            response = aiohttp.web.json_response(refused.status, status=refused.status["code"])
        return _dropped(raw) if fault.drop == "after" else response

    async def _route(
        self, raw: aiohttp.web.BaseRequest, query: dict[str, str], fault: Fault
    ) -> aiohttp.web.StreamResponse:
        if raw.path == "/version":
            return aiohttp.web.json_response({"major": "1", "minor": "36", "gitVersion": "v1.36.4"})
        body = json.loads(await raw.read() or b"{}")
        if raw.path == _REVIEWS:
            return aiohttp.web.json_response(self._review(body), status=201)
        resource, namespace, name, part = _parsed(raw.path)
        kind = self._api.kinds.get(resource)
        if kind is None:
            return aiohttp.web.Response(text="404 page not found\n", status=404)
        verb = _VERBS[raw.method] if name or raw.method != "GET" else "watch" if "watch" in query else "list"
        self._permit("create" if part == "exec" else verb, kind, namespace, name, part)
        streams: dict[str, Callable[[], Awaitable[aiohttp.web.StreamResponse]]] = {
            "log": lambda: self._streams.log(raw, self._api.store.get((resource, namespace, name)), query, fault),
            "exec": lambda: self._streams.exec(raw, self._api.store.get((resource, namespace, name)), fault),
            "watch": lambda: self._streams.watch(raw, resource, namespace, query, fault),
        }
        if part in streams or verb in streams:
            return await streams[part or verb]()
        if verb == "list":
            return aiohttp.web.json_response(self._list(kind, namespace, query))
        item = self._write(kind, verb, (resource, namespace, name), body, query, status=part == "status")
        return aiohttp.web.json_response(item, status=201 if verb == "create" else 200)

    def _write(
        self,
        kind: Kind,
        verb: str,
        key: tuple[Resource, str, str],
        body: Object,
        query: dict[str, str],
        *,
        status: bool,
    ) -> Object:
        dry_run = query.get("dryRun") == "All"
        if verb == "get":
            return self._api.store.get(key)
        if verb == "delete":
            uid = (body.get("preconditions") or {}).get("uid")
            return self._api.store.delete(key, uid=uid)
        if verb == "patch":
            return self._api.store.update(key, lambda item: merged(item, body), status=status, dry_run=dry_run)
        if (body.get("apiVersion"), body.get("kind")) != (kind.api_version, kind.name):
            raise RefusedError(
                400, "BadRequest", f"the API version in the data ({body.get('apiVersion')}) does not match"
            )
        sent = {part: value for part, value in body.items() if part != "status"}
        return self._api.store.create(key[0], key[1], sent, dry_run=dry_run)

    def _list(self, kind: Kind, namespace: str, query: dict[str, str]) -> Object:
        with self._api.store.lock:
            chosen = selector(kind_key(kind), query.get("labelSelector", ""), query.get("fieldSelector", ""))
            items = [item for item in self._api.store.all(kind_key(kind), namespace) if chosen(item)]
            start = int(base64.b64decode(query["continue"])) if "continue" in query else 0
            end = start + (int(query.get("limit", 0)) or len(items))
            metadata: Object = {"resourceVersion": str(self._api.store.version)}
            if end < len(items):
                metadata |= {
                    "continue": base64.b64encode(str(end).encode()).decode(),
                    "remainingItemCount": len(items) - end,
                }
        bare = [
            {part: value for part, value in item.items() if part not in {"apiVersion", "kind"}}
            for item in items[start:end]
        ]
        return {"kind": f"{kind.name}List", "apiVersion": kind.api_version, "metadata": metadata, "items": bare}

    def _authenticate(self, raw: aiohttp.web.BaseRequest) -> None:
        if raw.headers.get("Authorization", "").lower() != f"bearer {self._api.token}":
            raise RefusedError(401, "Unauthorized", "Unauthorized")

    def _review(self, body: Object) -> Object:
        wanted = body["spec"]["resourceAttributes"]
        if self._api.denied("create", "selfsubjectaccessreviews"):
            raise RefusedError(403, "Forbidden", 'User "tester" cannot create resource "selfsubjectaccessreviews"')
        plural = "/".join(filter(None, [wanted["resource"], wanted.get("subresource")]))
        return {**body, "status": {"allowed": not self._api.denied(wanted["verb"], plural)}}

    def _permit(self, verb: str, kind: Kind, namespace: str, name: str, part: str) -> None:
        plural = f"{kind.plural}/{part}" if part else kind.plural
        if self._api.denied(verb, plural):
            where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
            named = f'{kind.plural}.{kind.group} "{name}"'.replace('. "', ' "')
            message = f'{named} is forbidden: User "tester" cannot {verb} resource "{plural}" in API group "{kind.group}" {where}'
            raise RefusedError(403, "Forbidden", message, name=name, kind=kind.plural)


def _parsed(path: str) -> tuple[Resource, str, str, str]:
    """The resource, namespace, name and subresource in a path."""
    first, *parts = path.strip("/").split("/")
    count = {"api": 1, "apis": 2}.get(first, 0)
    version, parts = "/".join(parts[:count]), parts[count:]
    namespace = ""
    if len(parts) > 2 and parts[0] == "namespaces":
        namespace, parts = parts[1], parts[2:]
    plural, name, part, *_ = [*parts, "", "", ""]
    return (version, plural), namespace, name, part


def _failed(fault: Fault) -> aiohttp.web.Response:
    headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    if fault.body is not None:
        return aiohttp.web.Response(body=fault.body, status=fault.status, headers=headers)
    status = RefusedError(fault.status, fault.reason, fault.message or "made to fail").status
    return aiohttp.web.json_response(status, status=fault.status, headers=headers)


def _dropped(raw: aiohttp.web.BaseRequest) -> aiohttp.web.Response:
    if raw.transport is not None:
        raw.transport.abort()
    return aiohttp.web.Response()
