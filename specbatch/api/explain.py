"""The documentation of every field, from the types: for `specbatch explain`, the reference in docs/ and the starter."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic.fields import FieldInfo

from specbatch.api.base import SpecModel
from specbatch.api.hints.nearest import is_same, nearest
from specbatch.api.hints.other_engines import instead_of
from specbatch.api.job import SpecBatchJob
from specbatch.api.loading.problems import example_of
from specbatch.api.paths import parse_path
from specbatch.api.words import Branch, field_branches, fields_by_name, words_of
from specbatch.errors import Problem, SpecError

_WIDTH = 100


@dataclass(frozen=True, slots=True)
class FieldDoc:
    """What is known of one field. The items of lists and free mappings are the children: path[].key, path.NAME.key."""

    path: str
    description: str
    type_words: str
    required: bool
    default: Any
    example: Any
    is_section: bool  # a mapping of our own fields, rather than a value
    is_map: bool
    children: tuple[FieldDoc, ...]

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition(".")[2]

    @property
    def first_sentence(self) -> str:
        """The description's first sentence."""
        head, stop, _ = self.description.partition(". ")
        return head + stop.strip()

    @property
    def default_words(self) -> str:
        """The default as it would be written: `auto`, `[]`, "none", or "required"."""
        if self.required:
            return "required"
        if self.is_section and self.default is not None:
            return "the defaults of its fields"
        return "none" if self.default is None else yaml_value(self.default)

    def walk(self) -> Iterator[FieldDoc]:
        """This field and everything in it, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()


_PLAIN = re.compile(r"[A-Za-z/](?:[\w./:@+ -]*[\w./])?", re.ASCII)
_NOT_TEXT = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}  # for some reader of YAML


def yaml_value(value: Any) -> str:
    """A value on one line of YAML, quoted only where some reader of YAML would take the plain form for something else."""
    match value:
        case dict():
            return "{" + ", ".join(f"{yaml_value(key)}: {yaml_value(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(yaml_value, value)) + "]"
        case str() if _PLAIN.fullmatch(value) and ": " not in value and value.lower() not in _NOT_TEXT:
            return value
        case _:
            return json.dumps(value, ensure_ascii=False)


@cache
def documentation() -> FieldDoc:
    """The documentation of the whole file."""
    summary = (SpecBatchJob.__doc__ or "").strip()
    return FieldDoc(
        path="",
        description=summary,
        type_words="a SpecBatchJob",
        required=True,
        default=None,
        example=None,
        is_section=True,
        is_map=False,
        children=_children(SpecBatchJob, ""),
    )


def _children(model: type[SpecModel], prefix: str) -> tuple[FieldDoc, ...]:
    return tuple(_field(f"{prefix}{name}", field) for name, field in fields_by_name(model).items())


def _field(path: str, field: FieldInfo) -> FieldDoc:
    branches = field_branches(field)
    inner, prefix = _inner_model(branches, path)
    default = None if field.is_required() else field.get_default(call_default_factory=True, validated_data={})
    return FieldDoc(
        path=path,
        description=field.description or "",
        type_words=words_of(branches),
        required=field.is_required(),
        default=default.model_dump(by_alias=True) if isinstance(default, SpecModel) else default,
        example=example_of(field),
        is_section=branches[0].model is not None,
        is_map=branches[0].is_map,
        children=_children(inner, prefix) if inner else (),
    )


def _inner_model(branches: tuple[Branch, ...], path: str) -> tuple[type[SpecModel] | None, str]:
    """The model inside a field, and how the paths of its fields begin."""
    branch = branches[0]
    if branch.model is not None:
        return branch.model, f"{path}."
    for item in branch.items:
        if item.model is not None:
            return item.model, f"{path}[]." if branch.is_list else f"{path}.NAME."
    return None, ""


def find(path: str) -> FieldDoc:
    """The documentation at a path; the leading `spec.` may be left out, indices and free keys do not matter.

    Raises:
        SpecError: the spec has no such path; the remedy names the nearest.
    """
    root = documentation()
    path = path.strip(" .")
    if not path:
        return root
    try:
        pieces = parse_path(path.replace("[]", "[0]"))
    except ValueError:
        raise _unknown(path, root) from None
    if pieces[0] not in {child.name for child in root.children}:
        pieces = ("spec", *pieces)
    doc = root
    skipped = False  # one free key of a mapping was passed over
    for piece in pieces:
        if isinstance(piece, int):
            continue
        inner = next((child for child in doc.children if child.name == piece), None)
        if inner is None and doc.is_map and not skipped:
            skipped = True
            continue
        if inner is None:
            raise _unknown(path, doc)
        doc, skipped = inner, False
    return doc


def _unknown(path: str, doc: FieldDoc) -> SpecError:
    last = path.replace("[]", "").rpartition(".")[2]
    here = {child.name: child.path for child in doc.children}
    everywhere = {child.name: child.path for child in documentation().walk() if child.path}
    guess = here.get(nearest(last, here) or "") or everywhere.get(nearest(last, everywhere) or "")
    nearby = f"did you mean {guess}?" if guess else f"known here: {', '.join(here) or 'nothing further'}"
    remedy = nearby if guess and is_same(last, guess.rpartition(".")[2]) else instead_of(last) or nearby
    return SpecError([Problem(path, "is no field of a SpecBatchJob", remedy)], source="explain")


def explain(path: str = "", *, recursive: bool = False) -> str:
    """The documentation of a field as text: description, type, default, example, and what is in it.

    Raises:
        SpecError: the spec has no such path; the remedy names the nearest.
    """
    doc = find(path)
    lines = [doc.path or "SpecBatchJob", "", *_wrapped(doc.description, "  "), ""]
    if doc.path:
        lines += [
            *_wrapped(doc.type_words, "  type:     ") * (not doc.is_section),
            f"  default:  {doc.default_words}",
            f"  example:  {doc.name}: {yaml_value(doc.example)}",
            "",
        ]
    if doc.children:
        lines += ["  fields:", *_fields(doc, "    ", recursive=recursive), ""]
    return "\n".join(lines)


def _fields(doc: FieldDoc, indent: str, *, recursive: bool) -> Iterator[str]:
    width = max(len(child.name) for child in doc.children)
    for child in doc.children:
        default = "section" if child.is_section and child.default is not None else child.default_words
        yield from _wrapped(
            f"{child.first_sentence} ({default})", f"{indent}{child.name:<{width}}  ", " " * (len(indent) + width + 2)
        )
        if recursive and child.children:
            yield from _fields(child, f"{indent}    ", recursive=True)


def _wrapped(text: str, first: str, rest: str | None = None) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=" " * len(first) if rest is None else rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
