"""What people and machines see of a run: a live display on a terminal, JSON lines elsewhere, or nothing.

JSON lines, one object a line; keys may be added, none changes:

    {"event": "start", "name", "results"}
    {"event": "step", "message"}                        loading, stopping, ...
    {"event": "progress", and the fields of progress.Progress}   every few seconds, and once at the end
    {"event": "end", "summary": results.summary.RunSummary, "results", "report"}
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TextIO

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from specbatch.formatting import format_duration
from specbatch.redact import redact_values
from specbatch.results.status.progress_snapshot import look_lines, publish_text, rows_line
from specbatch.results.summary import RunSummary, render_summary
from specbatch.runner.progress_meter import Progress
from specbatch.terminal import for_people

_LINE_SECONDS = 5.0
WARNING = "warning: "  # a step that begins so is no news of progress, but something to look at


def seldom(
    say: Callable[[str], None], *, seconds: float = _LINE_SECONDS, clock: Callable[[], float] = time.monotonic
) -> Callable[[str], None]:
    """`say` for what changes many times a second: a message goes through if the last one that did is a few seconds old."""
    said_at = -math.inf

    def say_seldom(message: str) -> None:
        nonlocal said_at
        if clock() - said_at >= seconds:
            said_at = clock()
            say(message)

    return say_seldom


class Display(Protocol):
    """Shows a run. `progress` comes from another thread than the rest."""

    def start(self, name: str, results: Path) -> None:
        """The run begins."""
        ...

    def step(self, message: str) -> None:
        """Something takes a while now, or is worth knowing."""
        ...

    def progress(self, progress: Progress, *, last: bool = False) -> None:
        """The numbers as of now."""
        ...

    def end(self, summary: RunSummary, results: Path, report: Path | None) -> None:
        """The run is over."""
        ...

    def close(self) -> None:
        """Leaves the terminal as it was, whatever has happened."""
        ...


class QuietDisplay:
    """Shows nothing."""

    def start(self, name: str, results: Path) -> None:
        """Nothing."""

    def step(self, message: str) -> None:
        """Nothing."""

    def progress(self, progress: Progress, *, last: bool = False) -> None:
        """Nothing."""

    def end(self, summary: RunSummary, results: Path, report: Path | None) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class JsonDisplay:
    """One JSON object a line."""

    def __init__(self, stream: TextIO, *, line_seconds: float = _LINE_SECONDS) -> None:
        self._stream = stream
        self._line_seconds = line_seconds
        self._shown_at = -math.inf

    def start(self, name: str, results: Path) -> None:
        """A start line."""
        self._write(event="start", name=name, results=str(results))

    def step(self, message: str) -> None:
        """A step line."""
        self._write(event="step", message=message)

    def progress(self, progress: Progress, *, last: bool = False) -> None:
        """A progress line, if the last one is a few seconds old."""
        now = time.monotonic()
        if last or now - self._shown_at >= self._line_seconds:
            self._shown_at = now
            self._write(event="progress", **progress.to_json())

    def end(self, summary: RunSummary, results: Path, report: Path | None) -> None:
        """An end line."""
        self._write(
            event="end", summary=summary.to_json(), results=str(results), report=None if report is None else str(report)
        )

    def close(self) -> None:
        """Nothing to leave behind."""

    def _write(self, **fields: Any) -> None:
        print(json.dumps(redact_values(fields)), file=self._stream, flush=True)


class RichDisplay:
    """A live table on a terminal, and the summary at the end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._name = ""
        self._live: Live | None = None

    def start(self, name: str, results: Path) -> None:
        """A heading."""
        self._name = name
        self._console.print(Text.assemble((name, "bold"), for_people(f"  results in {results}")))

    def step(self, message: str) -> None:
        """A line above the live display."""
        self._console.print(Text(for_people(message), style="yellow" if message.startswith(WARNING) else "dim"))

    def progress(self, progress: Progress, *, last: bool = False) -> None:
        """Redraws the live display."""
        if self._live is None:
            self._live = Live(console=self._console, refresh_per_second=4, transient=False)
            self._live.start()
        self._live.update(render_progress(progress), refresh=last)

    def end(self, summary: RunSummary, results: Path, report: Path | None) -> None:
        """The summary."""
        self.close()
        text = render_summary(summary, results=str(results), report=str(report or ""), name=self._name)
        self._console.print(for_people(text), highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Ends the live display."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def render_progress(progress: Progress) -> Table:
    """The live display: a bar, and what is known below it, in lines that fit 80 columns."""
    now, total = progress.to_json(), progress.total_rows
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    eta = "" if progress.eta_seconds is None else f"{format_duration(progress.eta_seconds)} left"
    bar = Table.grid(padding=(0, 2))
    bar.add_row(ProgressBar(total=total, completed=progress.rows, width=40, pulse=total is None), eta)
    table.add_row("", bar)
    rows = Text(rows_line(now))
    rows.highlight_regex(r"[\d,]+ errors?", "red")
    table.add_row("rows", rows)
    for label, text in look_lines(now):
        table.add_row(label, Text(for_people(text)))
    if progress.publish is not None:
        table.add_row(
            "published",
            Text(for_people(publish_text(progress.publish)), style="red" if progress.publish.problem else ""),
        )
    return table


def choose_display(stream: TextIO, *, quiet: bool = False, json_lines: bool = False) -> Display:
    """The display that suits an output stream: live on a terminal, JSON lines elsewhere or when asked for."""
    if quiet:
        return QuietDisplay()
    if json_lines or not stream.isatty():
        return JsonDisplay(stream)
    return RichDisplay(Console(file=stream))
