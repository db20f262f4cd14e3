"""Parses Jinja templates without rendering them: what they name, and whether they would draw at random. Imports jinja2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.meta import find_undeclared_variables
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

LOOP_CONTROLS = "jinja2.ext.loopcontrols"
MOST_CHARACTERS = 16 << 20  # of what is rendered
_MOST_BITS = 4096  # of a number
_DEFAULTS = frozenset({"default", "d"})


class Sandbox(ImmutableSandboxedEnvironment):
    """transformers' environment for chat templates, with what a few characters could make huge held to a bound."""

    intercepted_binops = frozenset({"*", "**"})  # and none of them is computed while a template is compiled

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Multiplies, where the result is not too large."""
        if isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length() * right if operator == "**" else left.bit_length() + right.bit_length()
            too_large = bits > _MOST_BITS
        else:
            size, times = (left, right) if isinstance(right, int) else (right, left)
            too_large = isinstance(times, int) and hasattr(size, "__len__") and len(size) * times > MOST_CHARACTERS
        if too_large:
            raise OverflowError(f"the result of {operator} is too large")
        return super().call_binop(context, operator, left, right)


class Parsed(NamedTuple):
    """A template that can be parsed.

    Attributes:
        names: variables that it reads from outside, functions such as `range` included.
        optional: those of them that it asks for with `is defined` or gives a default.
        items: keys that it takes from a variable as constants: variable -> keys, of `row["my column"]`.
        random: what in it draws at random; empty where nothing does.
    """

    names: frozenset[str]
    optional: frozenset[str]
    items: dict[str, frozenset[str]]
    random: str


class TemplateSyntaxError(ValueError):
    """The template cannot be parsed; the message says why, and at which line."""


def parse_template(text: str, extensions: Sequence[str | type[Extension]] = (LOOP_CONTROLS,)) -> Parsed:
    """Reads a template.

    Raises:
        TemplateSyntaxError: it is none.
    """
    environment = Sandbox(extensions=extensions)
    environment.globals.clear()  # so that `lipsum` is a name like others
    try:
        tree = environment.parse(text)
        environment.compile(environment.parse(text), raw=True)  # which knows the filters; it changes the tree
        names = find_undeclared_variables(tree)
    except jinja2.TemplateSyntaxError as error:
        raise TemplateSyntaxError(f"{error.message} (line {error.lineno})") from error
    except (jinja2.TemplateError, RecursionError, ValueError) as error:  # ValueError: a number of thousands of digits
        raise TemplateSyntaxError(f"{error}") from error
    random = "lipsum" if "lipsum" in names else "random" if _draws(tree) else ""
    return Parsed(frozenset(names), frozenset(_optional(tree)), _items(tree), random)


def _draws(tree: nodes.Template) -> bool:
    """Whether the filter `random` is used, as itself or by name, as in `map("random")`."""
    for found in tree.find_all(nodes.Filter):
        by_name = (one.value for one in found.args if isinstance(one, nodes.Const))
        if found.name == "random" or (found.name == "map" and "random" in by_name):
            return True
    return False


def _optional(tree: nodes.Template) -> set[str]:
    asked = [test.node for test in tree.find_all(nodes.Test) if test.name in {"defined", "undefined"}]
    given = [one.node for one in tree.find_all(nodes.Filter) if one.name in _DEFAULTS]
    return {node.name for node in (*asked, *given) if isinstance(node, nodes.Name)}


def _items(tree: nodes.Template) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    taken: list[tuple[nodes.Expr, object]] = [(one.node, one.attr) for one in tree.find_all(nodes.Getattr)]
    taken += [(one.node, getattr(one.arg, "value", None)) for one in tree.find_all(nodes.Getitem)]
    for node, key in taken:
        if isinstance(node, nodes.Name) and isinstance(key, str):
            found.setdefault(node.name, set()).add(key)
    return {name: frozenset(keys) for name, keys in found.items()}
