"""The model names by which a request may mean the target."""

from __future__ import annotations

import re
from typing import Any

from specbatch.api.models import TargetSpec

_LAST = re.compile(r"[^/:\\]+$")
_LOCAL = ("/", "./", "../", "~", "file:")


def means_target(named: Any, target: TargetSpec) -> bool:
    """Whether a request that names this model means the target: as the spec has it, or its last part alone; in any case, with its revision or without."""
    if not isinstance(named, str):
        return False
    name, model = named.strip().rstrip("/").lower(), target.model.rstrip("/").lower()
    if target.revision is not None:
        name = name.removesuffix(f"@{target.revision.lower()}").removesuffix(f":{target.revision.lower()}")
    # Another owner's model of this name is another model, but a folder says nothing of its owner.
    return name in {model, _last(model)} or (model.startswith(_LOCAL) and _last(name) == _last(model))


def _last(name: str) -> str:
    found = _LAST.search(name.removesuffix(".gguf"))
    return found[0] if found else name
