"""Kubernetes objects as text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import yaml

from specbatch.cluster.client.kinds import Object


class _Dumper(yaml.SafeDumper):
    """Multi-line strings as blocks."""


def _text(dumper: yaml.SafeDumper, value: str) -> Any:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)
_Dumper.ignore_aliases = lambda *_: True  # type: ignore[method-assign]  # a manifest has no anchors


def manifests_text(objects: Sequence[Object], form: Literal["yaml", "json"]) -> str:
    """Objects for kubectl apply -f -: YAML documents, or one JSON List."""
    if form == "json":
        return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}, indent=2) + "\n"
    return yaml_text(objects)


def yaml_text(objects: Iterable[Object]) -> str:
    """Objects as YAML documents, fields in order."""
    return "---\n".join(yaml.dump(one, Dumper=_Dumper, sort_keys=False, width=1000) for one in objects)
