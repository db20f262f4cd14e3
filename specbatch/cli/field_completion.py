"""Completion of field paths, level by level: placement. -> placement.strategy= -> placement.strategy=same."""

from __future__ import annotations

from collections.abc import Iterator


def complete_field(incomplete: str) -> list[tuple[str, str]]:
    """For `explain`: the fields of the section that is written so far; a section ends in a dot."""
    return [(path if is_field else f"{path}.", text) for path, is_field, text in _fields(incomplete)]


def complete_change(incomplete: str) -> list[tuple[str, str]]:
    """For `--set`: as `complete_field` with `=` after each, and after it the words that the field takes."""
    path, equals, _ = incomplete.partition("=")
    if equals:
        return [(f"{path}={word}", "") for word in _words(path)]
    return [(f"{path}=" if is_field else f"{path}.", text) for path, is_field, text in _fields(incomplete)]


def _fields(incomplete: str) -> Iterator[tuple[str, bool, str]]:
    """(path as it is being written, whether it is a field with a value, what it means)."""
    from specbatch.api.explain import documentation, find
    from specbatch.errors import SpecError

    section, dot, _ = incomplete.rpartition(".")
    try:
        parents = [find(section)] if section else [*documentation().children]
    except SpecError:
        return
    for parent in parents:
        inside = section or parent.name == "spec"
        for child in parent.children if inside else [parent]:
            yield f"{section}{dot}{child.name}", not child.is_section, child.first_sentence


def _words(path: str) -> Iterator[str]:
    """The words of a field's type: choices, auto, true and false."""
    from specbatch.api.job import SpecBatchJob
    from specbatch.api.paths import parse_path, type_at

    try:
        pieces = parse_path(path)
    except ValueError:
        return
    for root in ((), ("spec",)):
        for branch in type_at(SpecBatchJob, (*root, *pieces)) or ():
            yield from ("true", "false") if branch.type is bool else branch.choices
