"""labelSelector and fieldSelector, as an API server reads them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.cluster.store import Object, RefusedError, Resource

# What may stand in a fieldSelector, besides metadata.name and metadata.namespace (as kube-apiserver 1.36 has it).
FIELDS: Mapping[str, tuple[str, ...]] = {
    "pods": (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "status.phase",
        "status.podIP",
    ),
    "events": (
        *(
            f"involvedObject.{field}"
            for field in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
        ),
        *("reason", "reportingComponent", "source", "type"),
    ),
    "jobs": ("status.successful",),
    "nodes": ("spec.unschedulable",),
    "secrets": ("type",),
    "namespaces": ("status.phase",),
}


def selector(resource: Resource, labels: str, fields: str) -> Callable[[Object], bool]:
    """Whether an object is picked by labelSelector and fieldSelector."""
    tests = [*_label_tests(labels), *_field_tests(resource, fields)]
    return lambda item: all(test(item) for test in tests)


def _label_tests(text: str) -> Iterator[Callable[[Object], bool]]:
    for part in re.findall(r"[^,(]+(?:\([^)]*\))?", text):
        within = re.fullmatch(r"\s*(\S+)\s+(in|notin)\s+\(([^)]*)\)\s*", part)
        compared = re.fullmatch(r"\s*([^=!\s]+)\s*(==|=|!=)\s*(\S*)\s*", part)
        named = re.fullmatch(r"\s*(!?)([^=!\s]+)\s*", part)
        if within:
            name, values, wanted = within[1], {value.strip() for value in within[3].split(",")}, within[2] == "in"
            yield lambda item, n=name, v=values, w=wanted: (_labels(item).get(n) in v) == w
        elif compared:
            name, value, wanted = compared[1], compared[3], compared[2] != "!="
            yield lambda item, n=name, v=value, w=wanted: (_labels(item).get(n) == v) == w
        elif named:
            yield lambda item, n=named[2], w=not named[1]: (n in _labels(item)) == w
        else:
            raise RefusedError(400, "BadRequest", f"unable to parse requirement: {part}")


def _field_tests(resource: Resource, text: str) -> Iterator[Callable[[Object], bool]]:
    for part in filter(None, text.split(",")):
        name, sign, value = re.fullmatch(r"([^=!]+)(==|=|!=)(.*)", part).groups()
        if name not in {"metadata.name", "metadata.namespace", *FIELDS.get(resource[1], ())}:
            raise RefusedError(400, "BadRequest", f'field label "{name}" not supported for {resource[1]}')
        yield lambda item, n=name, v=value, w=sign != "!=": (_field(item, n) == v) == w


def _labels(item: Object) -> Mapping[str, str]:
    return item["metadata"].get("labels") or {}


def _field(item: Object, path: str) -> str:
    value: Any = item
    for name in path.split("."):
        value = value.get(name, "") if isinstance(value, dict) else ""
    return str(value).lower() if isinstance(value, bool) else str(value)
