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

# What the control plane writes into an object of its own accord, by the field that holds it.
_OF_THE_SERVER = {
    "": {"apiVersion", "status", "data", "binaryData", "immutable"},  # of a ConfigMap's content its spec and files are shown
    "metadata": {"uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "ownerReferences", "selfLink"},
    "annotations": {SUBMITTED, CANCELLED, "batch.kubernetes.io/job-tracking"},
    "labels": {name for key in ("controller-uid", "job-name") for name in (key, f"batch.kubernetes.io/{key}")},
    "spec": {"suspend", "selector", "manualSelector"},
}  # fmt: skip


def diff_text(old: tuple[Object | None, Object | None], new: tuple[Object, Object]) -> str:
    """The diff of a Job and its ConfigMap; empty where nothing differs.

    Args:
        old: what is there; None for what is not.
        new: what would be.
    """
    lines: list[str] = []
    for before, after in zip(old, new, strict=True):
        name = f"{before['kind']}/{before['metadata']['name']}" if before else "(nothing)"
        label = f"{after['kind']}/{after['metadata']['name']}"
        texts = (_shown(before).splitlines() if before else [], _shown(after).splitlines())
        lines += difflib.unified_diff(*texts, f"there: {name}", f"new: {label}", lineterm="")
    return "\n".join(lines)


def _shown(thing: Object) -> str:
    """An object as YAML; of a ConfigMap the spec, and size and hash of each bundled file."""
    shown = _clean(thing)
    if "spec" not in thing:
        files = files_of(thing).items()
        hashes = {name: f"{len(content)} bytes, sha256 {_sha256(content)}" for name, content in files}
        shown |= {SPEC_KEY: _clean(resolved_spec(thing), SPEC_KEY), "files": hashes}
    return yaml_text([shown])


def _clean(value: Any, field: str = "") -> Any:
    """Without what is the server's, in the order of names: two servers, or two versions, may order fields differently."""
    if isinstance(value, list):
        return [_clean(item, f"{field}[]") for item in value]
    if not isinstance(value, dict):
        return value
    names = sorted(value.keys() - _OF_THE_SERVER.get(field, set()))
    cleaned = {name: _clean(value[name], name) for name in names}
    return {name: part for name, part in cleaned.items() if part or name not in {"annotations", "labels"}}


def _sha256(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()[:12]
