"""`specbatch status`: rows, speed and state of a run, while it goes on or after it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import typer

from specbatch.cli.cluster.cluster_options import ClusterOptions, with_cluster_options
from specbatch.cli.output import show, show_json
from specbatch.cli.sources import SourceArgument, is_folder, nor_folder

_FOLDER_SECONDS = 2.0  # as often as a run saves its progress
_CLUSTER_SECONDS = 5.0  # as often as a pod logs it


@with_cluster_options
def status(
    source: SourceArgument = None,
    *,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", "-w", help="Look again every few seconds, until the run is complete, or its Job has ended."
        ),
    ] = False,
    output: Annotated[
        Literal["text", "json"],
        typer.Option("--output", "-o", help="text or json; with --watch one JSON object a line."),
    ] = "text",
    options: ClusterOptions,
) -> None:
    """Show how far a run is: rows, speed, time left, errors.

    Where it has stopped, also what to do.

    Of a folder only the run's small files are read, and nothing is written: safe at any time, from anywhere that sees it. Of a
    published run (a URI) its manifests are read; of a run on the cluster its Job, its pods, and the last lines of their logs.

    Example: specbatch status results/quickstart --watch

    Example: specbatch status nightly -n ml

    Exit codes: 0, 74 where no run is, or 71 where the cluster cannot be reached or has no such run.
    """
    if source is not None and is_folder(source, options):
        read, seconds = _folder(source), _FOLDER_SECONDS
    else:
        read, seconds = _cluster(source, options), _CLUSTER_SECONDS
    if watch and output == "text" and sys.stdout.isatty():
        _watch_terminal(read, seconds)
        return
    while True:
        now = read()
        if output == "json":
            show_json(now.value(), indent=None if watch else 2)
        else:
            show(now.text() + ("\n" if watch else ""))
        if not watch or now.over:
            return
        time.sleep(seconds)


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """The status at one time; `over`: nothing more will happen."""

    over: bool
    text: Callable[[], str]
    value: Callable[[], dict[str, Any]]


def _folder(source: str) -> Callable[[], _Snapshot]:
    from specbatch.results.status.status import read_status
    from specbatch.results.status.status_text import render_status, status_json
    from specbatch.results.storage.folder import Folder

    folder = Folder(source)

    def read() -> _Snapshot:
        run = read_status(folder, time.time())
        return _Snapshot(run.complete, lambda: render_status(run), lambda: status_json(run))

    return read


def _cluster(source: str | None, options: ClusterOptions) -> Callable[[], _Snapshot]:
    from specbatch.cluster.status.job_run_text import render_run, run_json
    from specbatch.cluster.status.read_run import read_run

    with nor_folder(source):
        cluster, name = options.connect(source)

    def read() -> _Snapshot:
        with nor_folder(source):
            run = read_run(cluster, name, time.time())
        return _Snapshot(run.over, lambda: render_run(run), lambda: run_json(run))

    return read


def _watch_terminal(read: Callable[[], _Snapshot], seconds: float) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from specbatch.terminal import for_people

    now = read()
    with Live(Text(for_people(now.text())), console=Console(), auto_refresh=False) as live:
        while not now.over:
            time.sleep(seconds)
            now = read()
            live.update(Text(for_people(now.text())), refresh=True)
