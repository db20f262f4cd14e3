"""The model names by which a request may mean the target."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

_LAST = re.compile(r"[^/:\\]+$")
_LOCAL = ("/", "./", "../", "~", "file:")


@dataclass(frozen=True, slots=True)
class ModelNames:
    """The target as people name it, in any case: as the spec has it, or its last part alone; with its revision or without.

    Args:
        target: as the spec has it: an id of the hub, a folder, embedded:NAME.
        revision: as the spec has it; None where it names none.
        any_model: whether requests for other models are answered, too.
    """

    target: str
    revision: str | None = None
    any_model: bool = False

    def mean(self, named: Any) -> bool:
        """Whether a request that names this model means the target."""
        if not isinstance(named, str):
            return False
        name, target = named.strip().rstrip("/").lower(), self.target.rstrip("/").lower()
        if self.revision is not None:
            name = name.removesuffix(f"@{self.revision.lower()}").removesuffix(f":{self.revision.lower()}")
        # Another owner's model of this name is another model, but a folder says nothing of its owner.
        return name in {target, _last(target)} or (target.startswith(_LOCAL) and _last(name) == _last(target))


def _last(name: str) -> str:
    found = _LAST.search(name.removesuffix(".gguf"))
    return found[0] if found else name
