"""`--set path=value`: changes to a spec's plain data, before it is validated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from specbatch.api.base import SpecModel
from specbatch.api.loading.yaml_text import read_yaml
from specbatch.api.paths import Path, parse_path, path_text, type_at
from specbatch.api.words import fields_by_name
from specbatch.errors import Problem, SpecError

_DRAFTER = ("spec", "drafter")
_TWO_SIDED = ("separate", "multi_gpu_ratio")  # strategies that give the drafter GPUs of its own


def apply_overrides(data: dict[str, Any], overrides: Sequence[str], model: type[SpecModel]) -> list[Path]:
    """Applies `path=value` in order to `data`, in place; returns the paths.

    A path may leave out the leading `spec.`. The value is YAML (so also JSON); for a field of text it is the text itself, so that
    `target.revision=1234567` needs no quotes. `null` puts a field back to its default, nothing after `=` is empty text.
    `drafter=null` is enough for the target alone: what the file says of where the drafter goes and how much it drafts goes with it.

    Raises:
        SpecError: no `=`, not a path, or a path through something that is neither a mapping nor a list.
    """
    paths = [_apply(data, override, model) for override in overrides]
    if _DRAFTER in paths:
        _leave_out_what_needs_a_drafter(data["spec"], paths)
    return paths


def _leave_out_what_needs_a_drafter(spec: dict[str, Any], changed: Sequence[Path]) -> None:
    """Where there is no drafter any more; what was changed as well stays, and is judged by the rules."""
    if spec["drafter"] is not None:
        return
    placement, decoding = spec.get("placement"), spec.get("decoding")
    if isinstance(placement, dict) and placement.get("strategy") in _TWO_SIDED:
        for name in ("strategy", "ratio", "replicas"):
            if ("spec", "placement", name) not in changed:
                placement.pop(name, None)
    if isinstance(decoding, dict) and ("spec", "decoding", "numSpeculativeTokens") not in changed:
        decoding.pop("numSpeculativeTokens", None)


def _apply(data: dict[str, Any], override: str, model: type[SpecModel]) -> Path:
    written, equals, text = override.partition("=")
    written = written.strip()
    if not equals:
        raise _refusal(written, "has no value", "write --set PATH=VALUE, such as --set decoding.maxNewTokens=64")
    try:
        path = parse_path(written)
    except ValueError:
        raise _refusal(
            written, "is not a path", "write names with dots between, such as decoding.maxNewTokens or decoding.stop[0]"
        ) from None
    if path[0] not in fields_by_name(model):
        path = ("spec", *path)
    _put(data, path, _value(text, path, written, model), written)
    return path


def _value(text: str, path: Path, written: str, model: type[SpecModel]) -> Any:
    branches = type_at(model, path)
    is_text = branches is not None and all(branch.type is str for branch in branches)
    if not text.strip() or (_is_template(text) and any(branch.type is str for branch in branches or ())):
        return text
    try:
        value, _ = read_yaml(text)
    except SpecError as error:
        if is_text:
            return text
        raise _refusal(
            written, f"the value {error.problems[0].message}", "write YAML or JSON, in shell quotes"
        ) from None
    if isinstance(value, dict) and any(":" in str(key) and value[key] is None for key in value):
        raise _refusal(
            written,
            f"the value {text} is a mapping without values: YAML wants a space after each colon",
            f"write {text.replace(':', ': ')!r}, in shell quotes",
        )
    return text if is_text and not isinstance(value, (str, type(None))) else value


def _is_template(text: str) -> bool:
    """Whether a value that YAML would take for mappings is a Jinja template; in quotes, or in a list of messages, YAML knows it for text."""
    return ("{{" in text or "{%" in text) and not text.lstrip().startswith(("[", '"', "'"))


def _put(data: dict[str, Any], path: Path, value: Any, written: str) -> None:
    holder: Any = data
    for index, piece in enumerate(path):
        last = index == len(path) - 1
        if isinstance(holder, dict):
            key: Any = str(piece)
            if last:
                holder[key] = value
            elif holder.get(key) is None:
                holder[key] = [] if isinstance(path[index + 1], int) else {}
        elif isinstance(holder, list):
            key = _position(holder, piece, path[:index], written)
            if last:
                holder[key] = value
        else:
            raise _refusal(written, f"{path_text(path[:index])} is a value and has nothing inside", "shorten the path")
        holder = holder[key]


def _position(items: list[Any], piece: str | int, path: Path, written: str) -> int:
    """The index in a list; one past the end appends."""
    if not isinstance(piece, int):
        raise _refusal(written, f"{path_text(path)} is a list", f"write {path_text(path)}[0]")
    if piece > len(items):
        raise _refusal(
            written, f"{path_text(path)} has {len(items)} items", f"write {path_text(path)}[{len(items)}] to add one"
        )
    if piece == len(items):
        items.append({})
    return piece


def _refusal(written: str, message: str, remedy: str) -> SpecError:
    return SpecError([Problem(f"--set {written}", message, remedy)], source="--set")
