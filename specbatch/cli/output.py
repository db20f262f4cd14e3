"""Everything that a command writes: the one place where text leaves the process for a terminal or a pipe."""

from __future__ import annotations

import json
import sys
from typing import Any

import typer

from specbatch.terminal import encodable, for_people, printable


def show(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Text for people: without secrets, and nothing in it controls the terminal."""
    typer.echo(encodable(for_people(text), sys.stderr if err else sys.stdout), err=err, nl=nl)


def say(text: str) -> None:
    """Text for people on standard error, beside what the command prints."""
    show(text, err=True)


def show_json(value: Any, *, indent: int | None = 2) -> None:
    """The output of `--output json`."""
    show(json.dumps(value, indent=indent))


def show_document(text: str, *, nl: bool = True) -> None:
    """Text for programs, such as a manifest: as it is into a file or pipe; on a terminal nothing in it controls that."""
    typer.echo(printable(text) if sys.stdout.isatty() else text, nl=nl)
