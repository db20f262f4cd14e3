"""Types and values in a person's words: "a whole number of at least 1, or auto", "a list of 3 items"."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, MaxLen
from pydantic.fields import FieldInfo

from specbatch.api.base import Says, SpecModel
from specbatch.redact import redact

_LONGEST_VALUE = 60


@dataclass(frozen=True, slots=True)
class Branch:
    """One alternative of a field's type, with the constraints that belong to it."""

    type: Any
    constraints: tuple[Any, ...] = ()

    @property
    def model(self) -> type[SpecModel] | None:
        """The model, where this branch is one."""
        return self.type if isinstance(self.type, type) and issubclass(self.type, SpecModel) else None

    @property
    def items(self) -> tuple[Branch, ...]:
        """The branches of a list's items, or of a mapping's values; empty for anything else."""
        origin, args = get_origin(self.type), get_args(self.type)
        return branches_of(args[-1]) if origin in {list, dict} else ()

    @property
    def keys(self) -> tuple[Branch, ...]:
        """The branches of a mapping's keys; empty for anything else."""
        return branches_of(get_args(self.type)[0]) if self.is_map else ()

    @property
    def is_list(self) -> bool:
        """Whether this branch is a list."""
        return get_origin(self.type) is list

    @property
    def is_map(self) -> bool:
        """Whether this branch is a mapping with free keys."""
        return get_origin(self.type) is dict

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that a Literal allows."""
        return tuple(get_args(self.type)) if get_origin(self.type) is Literal else ()

    @property
    def words(self) -> str:
        """The branch in a person's words."""
        says = [constraint.words for constraint in self.constraints if isinstance(constraint, Says)]
        if says:
            return says[-1]
        if self.choices:
            return self.choices[0] if len(self.choices) == 1 else f"one of {', '.join(self.choices)}"
        most = next((f" of at most {c.max_length} items" for c in self.constraints if isinstance(c, MaxLen)), "")
        if self.is_list:
            return f"a list{most}, each {words_of(self.items)}"
        if self.is_map:
            return f"a mapping{most}{',' if most else ''} whose values are each {words_of(self.items)}"
        if self.model is not None:
            return f"a mapping with the fields {', '.join(field_names(self.model))}"
        return _SCALARS.get(self.type, "anything") + _bounds(self.constraints)


_SCALARS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def branches_of(annotation: Any, constraints: tuple[Any, ...] = ()) -> tuple[Branch, ...]:
    """The alternatives of a type, in order, without null (null means: left out)."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *extra = get_args(annotation)
        flat = [piece for item in extra for piece in (item.metadata if isinstance(item, FieldInfo) else [item])]
        return branches_of(inner, (*constraints, *flat))
    if origin in {Union, UnionType}:
        return tuple(
            branch for arg in get_args(annotation) if arg is not NoneType for branch in branches_of(arg, constraints)
        )
    return (Branch(annotation, constraints),)


def field_branches(field: FieldInfo) -> tuple[Branch, ...]:
    """The alternatives of a model's field."""
    return branches_of(field.annotation, tuple(field.metadata))


def fields_by_name(model: type[SpecModel]) -> dict[str, FieldInfo]:
    """A model's fields by their names in the file."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def field_names(model: type[SpecModel]) -> tuple[str, ...]:
    """The names that a file uses for a model's fields."""
    return tuple(fields_by_name(model))


def words_of(branches: tuple[Branch, ...]) -> str:
    """Alternatives in a person's words: "a whole number of at least 1, or auto"."""
    return ", or ".join(branch.words for branch in branches)


def _bounds(constraints: tuple[Any, ...]) -> str:
    least = next((c for c in constraints if isinstance(c, (Ge, Gt))), None)
    most = next((c.le for c in constraints if isinstance(c, Le)), None)
    if isinstance(least, Gt):
        low = f"above {least.gt}"
        return low if most is None else f" {low} and at most {most}"
    if isinstance(least, Ge):
        return f" of at least {least.ge}" if most is None else f" from {least.ge} to {most}"
    return ""


def value_in_words(value: Any) -> str:
    """A value of the file, shortened: `"eight"`, `1.5`, `true`, `a list of 3 items`, `nothing`."""
    match value:
        case None:
            return "nothing"
        case dict():
            return "a mapping"
        case list():
            return f"a list of {len(value)} item{'' if len(value) == 1 else 's'}" if value else "an empty list"
        case bool() | float():
            return json.dumps(value)
        case int() if abs(value) >= 10**_LONGEST_VALUE:
            return "a number of more than 60 digits"
        case _:
            text = redact(json.dumps(value, ensure_ascii=False))  # before it is cut: half a password is one too
            return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}... ({len(str(value))} characters)"
