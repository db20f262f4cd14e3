"""What an API server keeps: objects with uids and versions, history for watches, and its garbage collector."""

from __future__ import annotations

import copy
import datetime as dt
import threading
import uuid
from collections.abc import Callable
from typing import Any

Object = dict[str, Any]
Resource = tuple[str, str]  # the API's group and version, and the plural: ("batch/v1", "jobs")
Key = tuple[Resource, str, str]  # resource, namespace, name


class RefusedError(Exception):
    """An answer that is no success: HTTP status, Kubernetes' reason, message and details."""

    def __init__(self, code: int, reason: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.status = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            "details": details,
            "code": code,
        }


class Store:
    """Objects by resource, namespace and name. Safe to use from several threads; `changed` is called after each change."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self.lock = threading.RLock()
        self.history: list[
            tuple[int, str, Key, Object, Object | None]
        ] = []  # version, type, key, object, object before
        self.forgotten = 0  # versions up to this one are gone from the history
        self.version = 100
        self._objects: dict[Key, Object] = {}
        self._changed = changed

    def get(self, key: Key) -> Object:
        with self.lock:
            if key not in self._objects:
                raise not_found(key)
            return copy.deepcopy(self._objects[key])

    def all(self, resource: Resource, namespace: str = "") -> list[Object]:
        with self.lock:
            found = [
                (key, item) for key, item in self._objects.items() if key[0] == resource and namespace in {"", key[1]}
            ]
            return [copy.deepcopy(item) for _, item in sorted(found, key=lambda pair: pair[0])]

    def create(self, resource: Resource, namespace: str, body: Object, *, dry_run: bool = False) -> Object:
        with self.lock:
            item = copy.deepcopy(body)
            metadata = item.setdefault("metadata", {})
            if not metadata.get("name") and metadata.get("generateName"):
                metadata["name"] = metadata["generateName"] + uuid.uuid4().hex[:5]
            key = (resource, namespace, metadata["name"])
            if namespace and (("v1", "namespaces"), "", namespace) not in self._objects:
                raise not_found((("v1", "namespaces"), "", namespace))
            if key in self._objects:
                raise RefusedError(
                    409, "AlreadyExists", f'{_group(key)} "{key[2]}" already exists', name=key[2], kind=resource[1]
                )
            now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": now, "generation": 1}
            if namespace:
                metadata["namespace"] = namespace
            return item if dry_run else self._keep("ADDED", key, item)

    def update(
        self, key: Key, change: Callable[[Object], Object], *, status: bool = False, dry_run: bool = False
    ) -> Object:
        """`change` makes the new object of the old one; of it the status counts, or all but the status."""
        with self.lock:
            before = self.get(key)
            item = change(copy.deepcopy(before))
            wanted = item.get("metadata", {})
            for name in ("resourceVersion", "uid"):
                if wanted.get(name) not in {None, before["metadata"][name]}:
                    message = f'Operation cannot be fulfilled on {_group(key)} "{key[2]}": the object has been modified'
                    raise RefusedError(409, "Conflict", message, name=key[2], kind=key[0][1])
            _check_immutable(key, before, item)
            if status:
                item = {**before, **({"status": item["status"]} if "status" in item else {})}
            else:
                item = {**{name: part for name, part in item.items() if name != "status"}}
                if "status" in before:
                    item["status"] = before["status"]
            kept = {
                name: before["metadata"][name] for name in ("uid", "creationTimestamp", "resourceVersion", "generation")
            }
            item["metadata"] = {**item.get("metadata", {}), **kept, "name": key[2]}
            if key[1]:
                item["metadata"]["namespace"] = key[1]
            if item.get("spec") != before.get("spec"):
                item["metadata"]["generation"] += 1
            if item == before or dry_run:
                return item
            return self._keep("MODIFIED", key, item)

    def put(self, resource: Resource, namespace: str, body: Object) -> Object:
        """Whatever a test wants there to be, status and all; created or replaced, its namespace too."""
        with self.lock:
            item = copy.deepcopy(body)
            key = (resource, namespace, item["metadata"]["name"])
            if namespace and (("v1", "namespaces"), "", namespace) not in self._objects:
                self.put(("v1", "namespaces"), "", {"metadata": {"name": namespace}, "status": {"phase": "Active"}})
            if key not in self._objects:
                created = self.create(resource, namespace, item, dry_run=True)
                created["metadata"] |= item["metadata"]
                return self._keep("ADDED", key, created)
            item["metadata"] = {**self._objects[key]["metadata"], **item["metadata"]}
            return self._keep("MODIFIED", key, item)

    def delete(self, key: Key, *, uid: str | None = None) -> Object:
        with self.lock:
            item = self.get(key)
            if uid is not None and item["metadata"]["uid"] != uid:
                raise RefusedError(
                    409, "Conflict", f"Precondition failed: UID in precondition: {uid}", name=key[2], kind=key[0][1]
                )
            if item["metadata"].get("finalizers"):
                item["metadata"]["deletionTimestamp"] = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                return self._keep("MODIFIED", key, item)
            self._keep("DELETED", key, item)
            self._collect(item["metadata"]["uid"])
            return item

    def forget(self) -> None:
        """Watches from any version before now have expired."""
        with self.lock:
            self.version += 1
            self.forgotten = self.version
            self.history.clear()

    def _collect(self, uid: str) -> None:
        """What the garbage collector does when an owner is gone."""
        for key, item in list(self._objects.items()):
            owners = item["metadata"].get("ownerReferences", [])
            others = [owner for owner in owners if owner.get("uid") != uid]
            if key not in self._objects or len(others) == len(owners):
                continue
            if others:
                self._keep("MODIFIED", key, {**item, "metadata": {**item["metadata"], "ownerReferences": others}})
            else:
                self.delete(key)

    def _keep(self, change: str, key: Key, item: Object) -> Object:
        before = self._objects.pop(key, None)
        self.version += 1
        item = copy.deepcopy(item)
        item["metadata"]["resourceVersion"] = str(self.version)
        if change != "DELETED":
            self._objects[key] = item
        self.history.append((self.version, change, key, item, before))
        self._changed()
        return copy.deepcopy(item)


def merged(item: Any, patch: Any) -> Any:
    """JSON merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(item) if isinstance(item, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def not_found(key: Key) -> RefusedError:
    return RefusedError(404, "NotFound", f'{_group(key)} "{key[2]}" not found', name=key[2], kind=key[0][1])


def _group(key: Key) -> str:
    group = key[0][0].rpartition("/")[0]
    return f"{key[0][1]}.{group}" if group else key[0][1]


def _check_immutable(key: Key, before: Object, item: Object) -> None:
    parts = {"jobs": ("spec", "template"), "configmaps": ("data",) if before.get("immutable") else ()}.get(
        key[0][1], ()
    )
    if parts and _at(before, parts) != _at(item, parts):
        field, message = ".".join(parts), "field is immutable"
        cause = {"reason": "FieldValueInvalid", "message": message, "field": field}
        text = f'{_group(key)} "{key[2]}" is invalid: {field}: {message}'
        raise RefusedError(422, "Invalid", text, name=key[2], kind=key[0][1], causes=[cause])


def _at(item: Object, parts: tuple[str, ...]) -> Any:
    value: Any = item
    for part in parts:
        value = (value or {}).get(part)
    return value
