"""`specbatch status`: how a run stands, read from outside while it goes on."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from specbatch.cli.options import RunArgument

if TYPE_CHECKING:
    from specbatch.results.folder import Folder

_SECONDS = 2.0  # as often as a run says a word


def status(
    directory: RunArgument,
    *,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Look again every 2 seconds, until the run is complete.")
    ] = False,
    output: Annotated[
        Literal["text", "json"],
        typer.Option("--output", "-o", help="text or json; with --watch one JSON object a line."),
    ] = "text",
) -> None:
    """Show how a run stands: rows, speed, acceptance, time left, errors, and what to do where it does not go on.

    Reads the run's small files only, and writes nothing: safe at any time, from anywhere that sees the directory. Of a published
    run (a URI) its manifests tell.

    Example: specbatch status results/quickstart --watch

    Exit codes: 0, or 74 where no run is.
    """
    from specbatch.results.folder import Folder
    from specbatch.results.status import read_status
    from specbatch.results.status_text import render_status, status_json

    folder = Folder(directory)
    if watch and output == "text" and sys.stdout.isatty():
        _watch_terminal(folder)
        return
    while True:
        run = read_status(folder, time.time())
        if output == "json":
            typer.echo(json.dumps(status_json(run), indent=None if watch else 2))
        else:
            typer.echo(render_status(run) + ("\n" if watch else ""))
        if not watch or run.complete:
            return
        time.sleep(_SECONDS)


def _watch_terminal(folder: Folder) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from specbatch.results.status import read_status
    from specbatch.results.status_text import render_status

    run = read_status(folder, time.time())
    with Live(Text(render_status(run)), console=Console(), auto_refresh=False) as live:
        while not run.complete:
            time.sleep(_SECONDS)
            run = read_status(folder, time.time())
            live.update(Text(render_status(run)), refresh=True)
