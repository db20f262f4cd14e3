"""docs/reference/modules.md: every module of specbatch/ with the first paragraph of its docstring."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCUMENT = "docs/reference/modules.md"

_HEAD = """# The modules

Made by `make generate` from the modules' docstrings. How they work together: [architecture](../architecture.md).
"""
# The way of the data, then what stands around it.
_ORDER = ("cli", "api", "plan", "cluster", "runner", "engine", "results", "embedded")


def module_list(root: Path = ROOT) -> str:
    """The document's text."""
    return "\n".join([_HEAD, *_sections(root / "specbatch")])


def _sections(package: Path) -> Iterator[str]:
    folders = [file.parent.relative_to(package) for file in package.glob("*/**/__init__.py")]
    for place in sorted(folders, key=lambda place: (_ORDER.index(place.parts[0]), place.parts)):
        folder = package / place
        yield from (f"## specbatch/{place}", "", _sentence(folder / "__init__.py"), "")
        yield from _table(path for path in folder.glob("*.py") if path.name != "__init__.py")
    yield from ("## specbatch", "")
    yield from _table(package.glob("*.py"))


def _table(paths: Iterator[Path]) -> Iterator[str]:
    rows = [f"| `{path.name}` | {_sentence(path)} |" for path in sorted(paths)]
    if rows:
        yield from ("| Module | What it is |", "|---|---|", *rows, "")


def _sentence(path: Path) -> str:
    """A module's first paragraph, as one line of a table."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring, f"{path} has no docstring"
    return " ".join(docstring.split("\n\n", maxsplit=1)[0].split()).replace("|", "\\|")
