"""Files -> SpecBatchJob."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from specbatch.api.hints.nearest import nearest
from specbatch.api.job import SpecBatchJob
from specbatch.api.loading.parsing import parse_spec
from specbatch.api.loading.yaml_text import MAX_BYTES
from specbatch.errors import Problem, SpecError


def load_spec(path: str | Path, overrides: Sequence[str] = ()) -> SpecBatchJob:
    """The job in a file, `-` for standard input, with `path=value` overrides applied.

    Raises:
        SpecError: the file cannot be read, or with every problem of its content.
    """
    source = "standard input" if str(path) == "-" else str(path)
    return parse_spec(_text(_bytes(path, source), source), source, overrides)


def _bytes(path: str | Path, source: str) -> bytes:
    """The content, or one byte more than a spec may have."""
    if str(path) == "-":
        return sys.stdin.buffer.read(MAX_BYTES + 1)
    file = Path(path)
    try:
        if file.is_dir():
            files = sorted(str(found) for found in file.glob("*.yaml"))
            remedy = f"name a file in it: {', '.join(files[:5])}" if files else "name a file"
            raise _unreadable(source, "is a folder", remedy)
        with file.open("rb") as opened:
            return opened.read(MAX_BYTES + 1)
    except FileNotFoundError:
        beside = {str(found): found for found in file.parent.glob("*.y*ml")} if file.parent.is_dir() else {}
        guess = nearest(str(file), beside)
        remedy = f"did you mean {guess}?" if guess else "specbatch init writes a starter"
        raise _unreadable(source, "does not exist", remedy) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise _unreadable(source, f"cannot be read: {reason}", "") from None


def _text(content: bytes, source: str) -> str:
    if len(content) > MAX_BYTES:
        raise _unreadable(source, f"is larger than {MAX_BYTES >> 20} MiB", "is this a spec?")
    if b"\0" in content:
        raise _unreadable(source, "is a binary file (or UTF-16 text)", "give a YAML file, saved as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _unreadable(
            source, f"is not UTF-8 text: byte 0x{content[error.start]:02x} in line {line}", "save it as UTF-8"
        ) from None


def _unreadable(source: str, message: str, remedy: str) -> SpecError:
    return SpecError([Problem("file", message, remedy)], source=source)
