"""Shows a run: a live display on a terminal, plain lines into a file or pipe, JSON lines (results.protocol) in a pod, or nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Literal, TextIO

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from specbatch.formatting import format_duration
from specbatch.results.protocol import Event, Finished, Progress, Started, Step, log_line
from specbatch.results.status.progress_text import event_line, progress_lines, publish_text, rows_line
from specbatch.results.summary_text import render_summary
from specbatch.terminal import encodable, for_people

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


class Display:
    """Takes the events of a run, those of progress from a thread of their own. This one shows nothing."""

    def show(self, event: Event, *, last: bool = False) -> None:
        """Shows an event; `last`: of its kind."""

    def step(self, message: str) -> None:
        """Something takes a while now, or is worth knowing."""
        self.show(Step(message))

    def close(self) -> None:
        """Leaves the terminal as it was, whatever has happened."""


class TextDisplay(Display):
    """Plain lines; of progress one every few seconds, and the last. The summary ends them."""

    def __init__(self, stream: TextIO, *, line_seconds: float = _LINE_SECONDS) -> None:
        self._stream = stream
        self._line_seconds = line_seconds
        self._progress_at = -math.inf
        self._name = ""

    def show(self, event: Event, *, last: bool = False) -> None:
        """Writes the event."""
        if isinstance(event, Progress):
            now = time.monotonic()
            if not last and now - self._progress_at < self._line_seconds:
                return
            self._progress_at = now
        if isinstance(event, Started):
            self._name = event.name
        print(encodable(self._text(event), self._stream), file=self._stream, flush=True)

    def _text(self, event: Event) -> str:
        text = _summary_text(event, self._name) if isinstance(event, Finished) else event_line(event)
        return for_people(text)


class JsonDisplay(TextDisplay):
    """As TextDisplay, with one JSON object a line."""

    def _text(self, event: Event) -> str:
        return log_line(event)


class RichDisplay(Display):
    """A live table on a terminal, and the summary at the end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._name = ""
        self._live: Live | None = None

    def show(self, event: Event, *, last: bool = False) -> None:
        """Prints a line, or draws the table anew."""
        match event:
            case Started(name=name, results=results):
                self._name = name
                self._console.print(Text.assemble((name, "bold"), for_people(f"  results in {results}")))
            case Step(message=message):
                style = "yellow" if message.startswith(WARNING) else "dim"
                self._console.print(Text(for_people(message), style=style))
            case Progress():
                if self._live is None:
                    self._live = Live(console=self._console, refresh_per_second=4, transient=False)
                    self._live.start()
                self._live.update(render_progress(event), refresh=last)
            case Finished():
                self.close()
                text = for_people(_summary_text(event, self._name))
                self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Ends the live table."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def render_progress(now: Progress) -> Table:
    """The live table: a bar, and what is known below it, in lines that fit 80 columns."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    eta = "" if now.eta_seconds is None else f"{format_duration(now.eta_seconds)} left"
    bar = Table.grid(padding=(0, 2))
    bar.add_row(ProgressBar(total=now.total_rows, completed=now.rows, width=40, pulse=now.total_rows is None), eta)
    table.add_row("", bar)
    rows = Text(rows_line(now))
    rows.highlight_regex(r"[\d,]+ errors?", "red")
    table.add_row("rows", rows)
    for label, text in progress_lines(now):
        table.add_row(label, Text(for_people(text)))
    if now.publish is not None:
        style = "red" if now.publish.problem else ""
        table.add_row("published", Text(for_people(publish_text(now.publish)), style=style))
    return table


def _summary_text(event: Finished, name: str) -> str:
    return render_summary(event.summary, results=event.results, report=event.report or "", name=name)


def choose_display(stream: TextIO, *, quiet: bool = False, log_format: Literal["text", "json"] = "text") -> Display:
    """The display that suits an output stream: text is live on a terminal that can move its cursor, and plain lines elsewhere."""
    if quiet:
        return Display()
    if log_format == "json":
        return JsonDisplay(stream)
    console = Console(file=stream)  # honours NO_COLOR
    plain = not stream.isatty() or console.is_dumb_terminal or not console.encoding.startswith("utf")
    return TextDisplay(stream) if plain else RichDisplay(console)
