"""What would change: a unified diff between what is there and what would be, as the API server has both."""

from __future__ import annotations

import difflib
import hashlib
from typing import Any

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.jobs.spec_changes import files_of
from specbatch.cluster.jobs.stored_spec import resolved_spec
from specbatch.cluster.manifests.mounts import SPEC_KEY
from specbatch.cluster.manifests.names import CANCELLED, SUBMITTED
from specbatch.cluster.manifests.yaml_text import yaml_text

# What the control plane writes into an object of its own accord.
_OF_METADATA = {
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "generation",
    "managedFields",
    "ownerReferences",
    "selfLink",
}
_OF_ANNOTATIONS = {SUBMITTED, CANCELLED, "batch.kubernetes.io/job-tracking"}
_OF_SPEC = {"suspend", "selector", "manualSelector"}
_OF_LABELS = {name for key in ("controller-uid", "job-name") for name in (key, f"batch.kubernetes.io/{key}")}


def diff_text(old: tuple[Object | None, Object | None], new: tuple[Object, Object]) -> str:
    """The diff of a Job and its ConfigMap; empty where nothing differs.

    Args:
        old: what is there; None for what is not.
        new: what would be.
    """
    names = [f"{one['kind']}/{one['metadata']['name']}" if one else "(nothing)" for one in old]
    texts = [(_job(old[0]), _job(new[0])), (_config_map(old[1]), _config_map(new[1]))]
    lines: list[str] = []
    for (before, after), name, made in zip(texts, names, new, strict=True):
        label = f"{made['kind']}/{made['metadata']['name']}"
        lines += difflib.unified_diff(
            before.splitlines(), after.splitlines(), f"there: {name}", f"new: {label}", lineterm=""
        )
    return "\n".join(lines)


def _job(job: Object | None) -> str:
    if job is None:
        return ""
    spec = _without(job["spec"], _OF_SPEC)
    template = spec["template"]
    metadata = template.get("metadata") or {}
    labels = _without(metadata.get("labels") or {}, _OF_LABELS)
    spec["template"] = {**template, "metadata": {**_without(metadata, _OF_METADATA), "labels": labels}}
    return _text({"kind": job["kind"], "metadata": _metadata(job), "spec": spec})


def _config_map(config_map: Object | None) -> str:
    """The spec as YAML, and size and hash of each bundled file."""
    if config_map is None:
        return ""
    files = {name: f"{len(content)} bytes, sha256 {_sha256(content)}" for name, content in files_of(config_map).items()}
    spec = resolved_spec(config_map)
    return _text({"kind": config_map["kind"], "metadata": _metadata(config_map), SPEC_KEY: spec, "files": files})


def _metadata(thing: Object) -> Object:
    metadata = _without(thing["metadata"], _OF_METADATA)
    annotations = _without(metadata.pop("annotations", None) or {}, _OF_ANNOTATIONS)
    labels = _without(metadata.pop("labels", None) or {}, _OF_LABELS)
    return {**metadata, "labels": labels, **({"annotations": annotations} if annotations else {})}


def _without(fields: Object, names: set[str]) -> Object:
    return {name: value for name, value in fields.items() if name not in names}


def _text(value: Object) -> str:
    return yaml_text([_sorted(value)])


def _sorted(value: Any) -> Any:
    """Two servers, or two versions, may order fields differently."""
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def _sha256(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()[:12]
