"""pydantic's errors -> Problems: the path as in the file, the value, what was expected, what to do."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from specbatch.api.base import SpecModel
from specbatch.api.hints.nearest import is_same, nearest
from specbatch.api.hints.other_engines import instead_of, meant_field
from specbatch.api.paths import Path, all_field_paths, path_text, step, value_at
from specbatch.api.words import Branch, field_names, fields_by_name, value_in_words, words_of
from specbatch.errors import Problem

_ENV = ("spec", "job", "env")
# Meant by a text in their place.
_MAIN_FIELDS = {"target": "model", "drafter": "model", "dataset": "uri", "results": "dir"}
_LONG = 200  # characters
_TRUE, _FALSE = {"yes", "on", "y", "true"}, {"no", "off", "n", "false"}


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """A Problem, and what of the spec is not to be trusted because of it."""

    problem: Problem | None  # None: another one says it already
    path: Path  # of the wrong value; of an unknown key
    doubtful: tuple[Path, ...]  # rules that read any of these are not applied


def field_problems(error: ValidationError, model: type[SpecModel], data: Any) -> list[FieldProblem]:
    """One FieldProblem for every mistake in `data`, in the order of the file's types.

    pydantic reports each alternative of a union by itself: they are one mistake. So are a misspelt key and the required
    field that is missing because of it.
    """
    found: dict[Path, FieldProblem] = {}
    missing: set[Path] = set()
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        kind, location = detail["type"], tuple(detail["loc"])
        path, branches = _walk(model, location)
        if path in found:
            continue
        if kind == "extra_forbidden":
            found[path] = _unknown_key(model, path, branches)
        elif kind == "missing":
            found[path] = _missing(path, branches)
            missing.add(path)
        elif location[-1:] == ("[key]",):
            found[path] = _wrong_key(path, branches)
        else:
            found[path] = _wrong_value(path, branches[-1], value_at(data, path))
    misspelt = {
        path for field_problem in found.values() if field_problem.path not in missing for path in field_problem.doubtful
    }
    return [replace(item, problem=None) if item.path in missing & misspelt else item for item in found.values()]


def _walk(model: type[SpecModel], location: Path) -> tuple[Path, list[tuple[Branch, ...]]]:
    """The path in the file, without pydantic's names for the alternatives of a union, and the type at each step."""
    branches: list[tuple[Branch, ...]] = [(Branch(model),)]
    for index, piece in enumerate(location):
        inner = step(branches[-1], piece)
        if inner is None:
            open_end = branches[-1][0].model is not None and len(branches[-1]) == 1
            return location[: index + 1] if open_end else location[:index], branches
        branches.append(inner)
    return location, branches


def _wrong_key(path: Path, branches: list[tuple[Branch, ...]]) -> FieldProblem:
    mapping = next(branch for alternatives in reversed(branches) for branch in alternatives if branch.is_map)
    message = f"the key {value_in_words(path[-1])} is not {words_of(mapping.keys)}"
    return FieldProblem(Problem(path_text(path[:-1]), message, "change the key"), path[:-1], (path[:-1],))


def _unknown_key(model: type[SpecModel], path: Path, branches: list[tuple[Branch, ...]]) -> FieldProblem:
    owner = branches[-1][0].model
    assert owner is not None, "only models have unknown keys"
    names, written = field_names(owner), str(path[-1])
    guess, advice = nearest(written, names), instead_of(written)
    if guess is not None and (advice is None or is_same(written, guess)):
        likely: tuple[Path, ...] = ((*path[:-1], guess),)
        remedy = f"did you mean {guess}?"
    elif advice is not None:
        meant = meant_field(written)
        likely = () if meant is None else (("spec", *meant.split(".")),)
        remedy = advice
    else:
        everywhere = list(all_field_paths(model))
        elsewhere = nearest(written, (str(known[-1]) for known in everywhere), cutoff=0.85)
        likely = tuple(known for known in everywhere if known[-1] == elsewhere)[:3]
        remedy = f"did you mean {' or '.join(path_text(known) for known in likely)}?"
        if not likely:
            remedy = f"known here: {', '.join(names)}"
    return FieldProblem(Problem(path_text(path), "unknown field", remedy), path, likely)


def _missing(path: Path, branches: list[tuple[Branch, ...]]) -> FieldProblem:
    owner = branches[-2][0].model
    assert owner is not None, "only models have required fields"
    example = example_of(fields_by_name(owner)[str(path[-1])])
    written = json.dumps(example, ensure_ascii=False) if isinstance(example, dict) else example
    return FieldProblem(
        Problem(path_text(path), "is required", f"add it, for example: {path[-1]}: {written}"), path, (path,)
    )


def _wrong_value(path: Path, branches: tuple[Branch, ...], value: Any) -> FieldProblem:
    # The values of variables stay out of messages: one of them may be a token in the wrong place.
    found = "something else" if path[:3] == _ENV else value_in_words(value)
    remedy = "put it in quotes" if path[:3] == _ENV else _remedy(path, branches, value)
    problem = Problem(path_text(path), f"expected {words_of(branches)}, found {found}", remedy)
    return FieldProblem(problem, path, (path,))


def _remedy(path: Path, branches: tuple[Branch, ...], value: Any) -> str:
    types = {branch.type for branch in branches}
    choices = [choice for branch in branches for choice in branch.choices]
    remedy = ""
    if isinstance(value, str):
        if choices and (guess := nearest(value, choices, cutoff=0.5)):
            remedy = f"did you mean {guess}?"
        elif choices and (advice := instead_of(value)):
            remedy = advice
        elif any(branch.model is not None for branch in branches):
            remedy = _as_section(str(path[-1]), value)
        elif bool in types and value.lower() in _TRUE | _FALSE:
            remedy = f"write {'true' if value.lower() in _TRUE else 'false'}, without quotes"
        elif types & {int, float} and _is_number(value):
            remedy = f"write {value.strip()}, without quotes"
        elif any(branch.is_list for branch in branches):
            remedy = f"write a list: [{json.dumps(value, ensure_ascii=False)}]"
    elif isinstance(value, float) and int in types and value.is_integer():
        remedy = f"write {int(value)}"
    elif isinstance(value, (bool, int, float)) and types == {str} and not choices:
        remedy = f'put it in quotes: "{json.dumps(value)}"'
    return remedy


def _as_section(name: str, value: str) -> str:
    """What a text in the place of a section most likely means, written as one."""
    if name == "drafter" and value.lower() in {"", "none", "off", "no", "false"}:
        return "write drafter: null, or leave it out"
    if name == "drafter" and value == "ngram":
        return "write drafter: {method: ngram}"
    if name not in _MAIN_FIELDS or not 0 < len(value) < _LONG:
        return ""
    return f"write {name}: {{{_MAIN_FIELDS[name]}: {json.dumps(value, ensure_ascii=False)}}}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def example_of(field: FieldInfo) -> Any:
    """The field's example: every field has one, and it is valid (a test proves both)."""
    assert field.examples, "every field has an example"
    return field.examples[0]
