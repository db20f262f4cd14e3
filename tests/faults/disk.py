"""What is on a disk for good, and what only the page cache holds: enough of a file system to cut its power.

The rules are those that POSIX promises and no more: a file's bytes are safe once the file was fsynced; that a name leads to it
(created, renamed, removed) once the directory was.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

Content = bytes | None  # None: a directory
Tree = dict[str, Content]  # path relative to the root -> what is there


@dataclass
class Node:
    """A file or directory, whatever its name: what of it is safe, and what it held when its last name went."""

    is_dir: bool = False
    safe: bytes = b""
    last: bytes = b""


@dataclass
class Disk:
    """The files under a root, as `Layer` has seen them change. Everything there at first counts as safe.

    Attributes:
        now: name -> node, as every process sees it.
        safe: name -> node, as a power cut leaves it at worst.
        pending: changes of names that are not safe yet, in order: (name, node or None).
    """

    root: Path
    now: dict[str, Node] = field(default_factory=dict)
    safe: dict[str, Node] = field(default_factory=dict)
    pending: list[tuple[str, Node | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for path in sorted(self.root.rglob("*")):
            node = Node(path.is_dir(), b"" if path.is_dir() else path.read_bytes())
            self.now[self.name(path)] = self.safe[self.name(path)] = node

    def name(self, path: Path | str) -> str:
        """The path relative to the root."""
        return str(Path(path).relative_to(self.root))

    def make(self, name: str, *, is_dir: bool = False) -> None:
        """A new, empty file or directory."""
        self._set(name, Node(is_dir))

    def rename(self, old: str, new: str) -> None:
        """As rename(2): what had the new name is gone. To be called before it is done."""
        self._remember(new)
        node = self.now[old]
        self._set(old, None)
        self._set(new, node)

    def remove(self, name: str) -> None:
        """As unlink(2). To be called before it is done."""
        self._remember(name)
        self._set(name, None)

    def sync(self, name: str) -> None:
        """As fsync(2) of the file or directory by that name."""
        if name != "." and not self.now[name].is_dir:
            self.now[name].safe = (self.root / name).read_bytes()
            return
        kept = []
        for change in self.pending:
            if str(Path(change[0]).parent) == name:
                _apply(self.safe, change)
            else:
                kept.append(change)
        self.pending = kept

    def freeze(self) -> Disk:
        """Takes down what the files hold now, for use after the process has died."""
        for name in self.now:
            self._remember(name)
        return self

    def power_cuts(self, chosen: random.Random) -> Iterator[tuple[str, Tree]]:
        """Some of the states that a power cut may leave, each with what it is called; the disk must be frozen."""
        middle = dict(self.safe)
        for change in self.pending[: chosen.randint(0, len(self.pending))]:
            _apply(middle, change)
        yield "names undone, tails lost", _tree(self.safe, lambda node: node.safe)
        yield "names undone, tails cut", _tree(self.safe, lambda node: _cut(node, chosen))
        yield "names kept, tails lost", _tree(self.now, lambda node: node.safe)
        yield "names kept, tails zeros", _tree(self.now, lambda node: _zeros(node, chosen))
        yield "names half kept, tails any", _tree(middle, lambda node: chosen.choice([_whole, _lost, _cut, _zeros])(node, chosen))  # fmt: skip

    def tree(self) -> Tree:
        """As every process sees it; the disk must be frozen."""
        return _tree(self.now, lambda node: node.last)

    def _set(self, name: str, node: Node | None) -> None:
        _apply(self.now, (name, node))
        self.pending.append((name, node))

    def _remember(self, name: str) -> None:
        node = self.now.get(name)
        if node is not None and not node.is_dir:
            node.last = (self.root / name).read_bytes()


def real_tree(root: Path) -> Tree:
    """What really is under a root."""
    return {str(path.relative_to(root)): None if path.is_dir() else path.read_bytes() for path in root.rglob("*")}


def write_tree(root: Path, tree: Tree) -> None:
    """Makes the root hold just that."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for name, content in sorted(tree.items()):
        if content is None:
            (root / name).mkdir()
        else:
            (root / name).write_bytes(content)


def _apply(names: dict[str, Node], change: tuple[str, Node | None]) -> None:
    name, node = change
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


def _tree(names: dict[str, Node], content) -> Tree:
    """Files whose directory is not there are not there."""
    dirs = {"."}
    for name in sorted(name for name, node in names.items() if node.is_dir):
        if str(Path(name).parent) in dirs:
            dirs.add(name)
    return {
        name: None if node.is_dir else content(node)
        for name, node in names.items()
        if str(Path(name).parent) in dirs and (not node.is_dir or name in dirs)
    }


def _whole(node: Node, chosen: random.Random) -> bytes:
    return node.last


def _lost(node: Node, chosen: random.Random) -> bytes:
    return node.safe


def _cut(node: Node, chosen: random.Random) -> bytes:
    """What was safe, and some of what came after."""
    if not node.last.startswith(node.safe):  # cut or rewritten since: either content
        return chosen.choice([node.safe, node.last])
    return node.last[: chosen.randint(len(node.safe), len(node.last))]


def _zeros(node: Node, chosen: random.Random) -> bytes:
    """The length is there before the bytes are."""
    kept = _cut(node, chosen)
    return kept + b"\0" * max(0, len(node.last) - len(kept))
