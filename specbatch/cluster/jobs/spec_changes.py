"""The differences between the spec of an existing Job and a new one, and what they mean for the finished rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.jobs.stored_spec import load_stored_spec, resolved_spec
from specbatch.cluster.manifests.mounts import SPEC_KEY
from specbatch.errors import SpecError
from specbatch.formatting import first_lines

_ABSENT = "(not set)"
_SHOWN_CHARS = 80
_SHOWN_LINES = 12


@dataclass(frozen=True, slots=True)
class SpecChanges:
    """From one ConfigMap to another.

    Args:
        lines: `decoding.maxNewTokens: 64 -> 128` for each field, and a line for each bundled file.
        same_rows: whether the new spec would write the same rows.
        same_place: whether both write to the same folder.
        shards: the new number of shards; None where it is the old one.
    """

    lines: tuple[str, ...]
    same_rows: bool
    same_place: bool = True
    shards: int | None = None

    @property
    def shown(self) -> list[str]:
        """The first dozen lines."""
        return first_lines(self.lines, _SHOWN_LINES)

    @property
    def consequence(self) -> str:
        """What happens to the finished rows, in one clause."""
        if self.same_rows and self.same_place and self.shards is not None:
            return f"its pods refuse the finished rows until specbatch reshard NAME --completions {self.shards} has run"
        if self.same_rows:
            return "it would continue the finished rows: nothing that changed affects them"
        return "the finished rows are another run's: they are not continued"


def spec_changes(old: Object, new: Object) -> SpecChanges:
    """The changes between the specs of two ConfigMaps."""
    before, after = spec_of(old), spec_of(new)
    lines = [
        f"{path.removeprefix('spec.')}: {_shown(before, path)} -> {_shown(after, path)}"
        for path in {**before, **after}
        if before.get(path, _ABSENT) != after.get(path, _ABSENT)
    ]
    files = [name for name in {**files_of(old), **files_of(new)} if files_of(old).get(name) != files_of(new).get(name)]
    hashed = _hashed(old)
    same = not files and hashed is not None and hashed == _hashed(new)
    place = all(before.get(path) == after.get(path) for path in ("spec.results.name", "spec.results.publish")) and (
        "spec.results.publish" in after or not _elsewhere(before, after)
    )
    shards = after.get("spec.job.completions")
    changed = None if shards == before.get("spec.job.completions") else shards
    return SpecChanges((*lines, *(f"{name}: other content" for name in files)), same, place, changed)


def _elsewhere(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether the folder differs, or its volume."""
    paths = [path for path in {**before, **after} if path.startswith("spec.job.volumes.results.")]
    return any(before.get(path) != after.get(path) for path in ("spec.results.dir", *paths))


def spec_of(config_map: Object) -> dict[str, Any]:
    """Every field of the spec in a ConfigMap by its path; empty where it holds no spec."""
    return dict(_leaves(resolved_spec(config_map)))


def files_of(config_map: Object) -> dict[str, str]:
    """The content of the bundled files, by their keys."""
    files = {**(config_map.get("data") or {}), **(config_map.get("binaryData") or {})}
    return {name: content for name, content in files.items() if name != SPEC_KEY}


def _hashed(config_map: Object) -> str | None:
    """The spec hash; None where the spec is of another version and cannot be parsed."""
    try:
        return load_stored_spec(config_map).spec_hash()
    except SpecError:
        return None


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):  # an empty one means nothing: defaults are filled in
        for name, part in value.items():
            yield from _leaves(part, f"{path}.{name}" if path else name)
    else:
        yield path, value


def _shown(leaves: Mapping[str, Any], path: str) -> str:
    if path not in leaves:
        return _ABSENT
    value = leaves[path]
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 3] + "..."
