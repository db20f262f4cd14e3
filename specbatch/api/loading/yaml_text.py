"""YAML text -> plain data and the line of every path. Only what JSON can say: no tags, no dates, no binary.

Scalars follow YAML 1.2's core schema rather than PyYAML's 1.1: 1e-3 is a number, 12:30:00 and 2026-01-01 and `no` are text.
Anchors, aliases and merge keys work; duplicate keys, a second document, cycles and alias bombs are refused.
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from specbatch.api.paths import Path
from specbatch.errors import Problem, SpecError

MAX_BYTES = 1 << 20
_MAX_VALUES = 20_000
_MAX_DEPTH = 40
_MAX_DIGITS = 100

Lines = dict[Path, int]

_NULL, _BOOL, _INT, _FLOAT = (f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float"))
_STR, _MAP, _SEQ, _MERGE = (f"tag:yaml.org,2002:{name}" for name in ("str", "map", "seq", "merge"))
_QUOTE = 'put it in quotes: of a template in double braces YAML makes mappings, "{{ column }}" is text'


class _Core(yaml.SafeLoader):
    """Composes nodes whose plain scalars are tagged by the core schema. Nothing is constructed by PyYAML."""

    depth = 0
    yaml_implicit_resolvers: dict[Any, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own protocol

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuses deep nesting on the way down: PyYAML's own limit is Python's stack."""
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise _too_deep()
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


for _tag, _pattern, _first in (
    (_NULL, r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    (_BOOL, r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    (_INT, r"^[-+]?[0-9]+$|^0x[0-9a-fA-F]+$", list("-+0123456789")),
    (_FLOAT, r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", list("-+.0123456789")),
    (_MERGE, r"^<<$", ["<"]),
):
    _Core.add_implicit_resolver(_tag, re.compile(_pattern), _first)


def read_yaml(text: str) -> tuple[Any, Lines]:
    """The plain data of one YAML document (None for an empty one), and the line (from 1) of every path in it.

    Raises:
        SpecError: for anything else; its problem says where and why.
    """
    try:
        documents = [node for node in yaml.compose_all(text, Loader=_Core) if node is not None]
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, text) from error
    except yaml.YAMLError as error:
        said = str(error).splitlines()[0]
        raise _refusal("text", f"is not YAML: {said}", "save it as plain UTF-8 text") from error
    written = [node for node in documents if node.tag != _NULL]
    if len(written) > 1:
        line = written[1].start_mark.line + 1
        said = "a second document begins, and a spec is exactly one"
        raise _refusal(f"line {line}", said, "keep one SpecBatchJob per file")
    if not written:
        return None, {}
    builder = _Builder()
    return builder.value(written[0], ()), builder.lines


class _Builder:
    """Turns composed nodes into plain data, once, with the checks that PyYAML leaves out."""

    def __init__(self) -> None:
        self.lines: Lines = {}
        self._values = 0

    def value(self, node: yaml.Node, path: Path) -> Any:
        self._values += 1
        if self._values > _MAX_VALUES:
            raise _error(node, f"the file expands to more than {_MAX_VALUES} values", "use fewer aliases")
        if len(path) > _MAX_DEPTH:
            raise _too_deep()
        self.lines[path] = node.start_mark.line + 1
        match node:
            case yaml.MappingNode(tag=tag) if tag == _MAP:
                return self._mapping(node, path)
            case yaml.SequenceNode(tag=tag) if tag == _SEQ:
                return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
            case yaml.ScalarNode():
                return _scalar(node)
            case _:
                raise _error(node, f"the tag {node.tag!r} is not allowed", "write plain values")

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                for name, value in self._merged(key_node, value_node, path).items():
                    merged.setdefault(name, value)
                continue
            key = _key(key_node)
            if key in own:
                raise _error(key_node, f"the key {key!r} is there twice", "keep one of them")
            own[key] = self.value(value_node, (*path, key))
            self.lines[*path, key] = key_node.start_mark.line + 1
        return {**{name: value for name, value in merged.items() if name not in own}, **own}

    def _merged(self, key_node: yaml.Node, node: yaml.Node, path: Path) -> dict[str, Any]:
        """The value of a merge key: one mapping, or a list of them of which the first wins."""
        value = self.value(node, (*path, "<<"))
        result: dict[str, Any] = {}
        for mapping in value if isinstance(value, list) else [value]:
            if not isinstance(mapping, dict):
                raise _error(key_node, "the merge key << needs a mapping", "merge an anchored mapping: <<: *name")
            for name, item in mapping.items():
                result.setdefault(name, item)
        return result


def _key(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode) or node.tag != _STR:
        written = node.value if isinstance(node, yaml.ScalarNode) else "this one"
        remedy = "put the key in quotes" if isinstance(node, yaml.ScalarNode) else _QUOTE
        raise _error(node, f"keys are text, and {written!s:.60} is not", remedy)
    return _text(node)


def _text(node: yaml.ScalarNode) -> str:
    text = str(node.value)
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise _error(
            node, "half of a surrogate pair is not a character", 'write the character itself, or "\\U0001F600"'
        )
    return text


def _scalar(node: yaml.ScalarNode) -> Any:
    text = _text(node)
    if node.tag == _STR:
        return text
    if node.tag == _NULL:
        return None
    if node.tag == _BOOL and text.lower() in {"true", "false"}:
        return text.lower() == "true"
    if len(text) > _MAX_DIGITS:
        raise _error(node, f"a number of {len(text)} characters", "put it in quotes if it is text")
    if node.tag == _INT and re.match(r"[-+]?0[0-9]", text):
        # Octal in YAML 1.1, which kubectl and Helm read, and decimal in YAML 1.2.
        raise _error(
            node,
            f"{text} has a leading zero, and readers of YAML differ in what it is",
            "leave it out; octal 0644 is 420",
        )
    try:
        if node.tag == _INT:
            return int(text, 16) if text.startswith("0x") else int(text)
        if node.tag == _FLOAT and math.isfinite(number := float(text)):
            return number
    except ValueError:
        pass  # an explicit tag on the wrong text: !!int abc
    raise _error(node, f"the tag {node.tag!r} does not fit {text!r:.60}", "write plain values")


def _error(node: yaml.Node, message: str, remedy: str) -> SpecError:
    mark = node.start_mark
    return _refusal(f"line {mark.line + 1}, column {mark.column + 1}", message, remedy)


def _too_deep() -> SpecError:
    return _refusal("text", f"is nested more than {_MAX_DEPTH} levels deep", "a spec needs about six")


def _syntax_error(error: yaml.MarkedYAMLError, text: str) -> SpecError:
    mark = error.problem_mark or error.context_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "text"
    said = " ".join(part for part in (error.context, error.problem) if part)
    remedy = "check the indentation, the colons and the quotes of this line and the one above"
    if mark and "{{" in "".join(text.splitlines()[mark.line : mark.line + 1]):
        remedy = _QUOTE
    if "'\\t'" in said:
        remedy = "indent with spaces; YAML allows no tabs there"
    return _refusal(where, f"is not YAML: {said}", remedy)


def _refusal(where: str, message: str, remedy: str) -> SpecError:
    return SpecError([Problem(where, message, remedy)], source="YAML")
