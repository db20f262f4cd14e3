"""Strategic merge patch: job.podTemplate over the pod template that specbatch makes.

As kubectl patch does it: maps are merged, null removes a field, lists of named items are merged by name, other lists are replaced.

Source: https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# patchMergeKey of the API's types: for each list of a pod the field that identifies an item.
MERGE_KEYS: Mapping[str, str] = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "env": "name",
    "ports": "containerPort",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
    "resourceClaims": "name",
    "schedulingGates": "name",
    "topologySpreadConstraints": "topologyKey",
}


def merge(base: Any, patch: Any, field: str = "") -> Any:
    """`patch` merged over `base`, as a new value. `field` is the field that holds both."""
    if isinstance(base, Mapping) and isinstance(patch, Mapping):
        merged = {name: value for name, value in base.items() if name not in patch}
        merged |= {name: merge(base.get(name), value, name) for name, value in patch.items() if value is not None}
        return {name: merged[name] for name in [*base, *patch] if name in merged}
    key = MERGE_KEYS.get(field)
    if key is not None and isinstance(base, list) and isinstance(patch, list):
        return _merge_items(base, patch, key)
    return _without_nulls(patch)


def _merge_items(base: Sequence[Any], patch: Sequence[Any], key: str) -> list[Any]:
    """Items of the same name are merged in place, new ones appended."""
    items = list(base)
    places = {_name(item, key): place for place, item in enumerate(items)}
    for item in patch:
        name = _name(item, key)
        if name is not None and name in places:
            items[places[name]] = merge(items[places[name]], item)
        else:
            items.append(_without_nulls(item))
    return items


def _name(item: Any, key: str) -> Any:
    name = item.get(key) if isinstance(item, Mapping) else None
    return name if isinstance(name, (str, int, float)) else None


def _without_nulls(value: Any) -> Any:
    """A value without a counterpart in `base`; null is not a value of any field."""
    if isinstance(value, Mapping):
        return {name: _without_nulls(part) for name, part in value.items() if part is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value
