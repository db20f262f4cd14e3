"""Paths into a spec: ("spec", "decoding", "stop", 0) in code, spec.decoding.stop[0] for people."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from specbatch.api.base import SpecModel
from specbatch.api.words import Branch, field_branches, fields_by_name

Path = tuple[str | int, ...]

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_PIECE = re.compile(r"""\[(?P<index>\d+|)\]|\["(?P<quoted>[^"]*)"\]|(?:^|\.)(?P<key>(?:\\.|[^.\[\]\\])+)""")


def path_text(path: Path) -> str:
    """The path as people write it; keys that hold dots are quoted: metadata.labels["example.com/team"]."""
    text = ""
    for piece in path:
        if isinstance(piece, int):
            text += f"[{piece}]"
        elif _PLAIN_KEY.fullmatch(piece):
            text += f".{piece}" if text else piece
        else:
            text += f"[{json.dumps(piece)}]"
    return text


def parse_path(text: str) -> Path:
    r"""A path that a person wrote: `spec.decoding.stop[0]`, also `stop.0`; `a\.b` or `["a.b"]` for a key with a dot.

    Raises:
        ValueError: the text is no path.
    """
    pieces: list[str | int] = []
    end = 0
    for match in _PIECE.finditer(text):
        if match.start() != end:
            break
        end = match.end()
        if match["index"]:
            pieces.append(int(match["index"]))
        elif match["quoted"] is not None:
            pieces.append(match["quoted"])
        elif match["key"] is not None:
            key = re.sub(r"\\(.)", r"\1", match["key"])
            pieces.append(int(key) if key.isascii() and key.isdigit() and len(key) < 9 else key)
    if end != len(text) or not pieces:
        raise ValueError(f"{text!r} is not a path")
    return tuple(pieces)


def step(branches: tuple[Branch, ...], piece: str | int) -> tuple[Branch, ...] | None:
    """The type one piece further down a path, or None where the type has no such piece (or leaves it open)."""
    if len(branches) != 1:
        return None
    branch = branches[0]
    if branch.model is not None:
        field = fields_by_name(branch.model).get(str(piece))
        return None if field is None else field_branches(field)
    if branch.is_list and isinstance(piece, int):
        return branch.items
    if branch.is_map and isinstance(piece, str):
        return branch.items
    return None


def type_at(model: type[SpecModel], path: Path) -> tuple[Branch, ...] | None:
    """The type at a path, or None where the model has no such path."""
    branches: tuple[Branch, ...] | None = (Branch(model),)
    for piece in path:
        if branches is None:
            return None
        branches = step(branches, piece)
    return branches


def value_at(data: Any, path: Path) -> Any:
    """The value at a path that `data` has."""
    for piece in path:
        data = data[piece]
    return data


def overlaps(path: Path, other: Path) -> bool:
    """Whether one path lies within the other, or they are the same."""
    shared = min(len(path), len(other))
    return path[:shared] == other[:shared]


def all_field_paths(model: type[SpecModel], prefix: Path = ()) -> Iterator[Path]:
    """Every path of a model's own fields, parents first; lists and free mappings are not entered."""
    for name, field in fields_by_name(model).items():
        path = (*prefix, name)
        yield path
        for branch in field_branches(field):
            if branch.model is not None:
                yield from all_field_paths(branch.model, path)
