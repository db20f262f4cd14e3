"""Reading the log and the termination message of a pod (results.protocol)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from msgspec.structs import replace

from specbatch.results.protocol import (
    Finished,
    Progress,
    Started,
    Step,
    TerminationMessage,
    parse_line,
    row_counts,
)
from specbatch.results.status.progress_text import event_line
from specbatch.results.summary import RunSummary

_ERROR = "error: "
_ERROR_LINES = 12  # a spec may have many problems


@dataclass(frozen=True, slots=True, kw_only=True)
class PodLog:
    """The newest attempt in the last lines of a log.

    Attributes:
        step: the last step.
        progress: the last snapshot.
        summary: of an attempt that ended its shard.
        error: why it failed, with the remedy.
    """

    step: str = ""
    progress: Progress | None = None
    summary: RunSummary | None = None
    error: str = ""

    @property
    def counts(self) -> dict[str, int]:
        """rows, errors and dataset_rows of the shard, as far as they are known."""
        newest = self.summary or self.progress
        return {} if newest is None else row_counts(newest)


def read_log(lines: Iterable[str]) -> PodLog:
    """Reads the last lines of a log; the first may be cut."""
    step, error = "", list[str]()
    progress: Progress | None = None
    summary: RunSummary | None = None
    failing = False
    for line in lines:
        event = parse_line(line)
        failing = line.startswith(_ERROR) or (failing and event is None)
        if line.startswith(_ERROR):
            error = [line.removeprefix(_ERROR)]
        elif failing and len(error) < _ERROR_LINES:
            error.append(line)
        elif isinstance(event, Started):
            step, error, progress, summary = "started", [], None, None
        elif isinstance(event, Step):
            step = event.message
        elif isinstance(event, Progress):
            progress = event
        elif isinstance(event, Finished):
            summary = event.summary
    return PodLog(step=step, progress=progress, summary=summary, error="\n".join(error).strip())


def read_termination_message(message: str) -> TerminationMessage:
    """A termination message, the runner's JSON or the end of a log (FallbackToLogsOnError)."""
    return TerminationMessage.parse(message) or _from_log(message)


def _from_log(message: str) -> TerminationMessage:
    lines = message.splitlines()
    log = read_log(lines)
    foreign = [line for line in whole_lines(message) if parse_line(line) is None]
    error, _, remedy = log.error.partition("\n  remedy: ")
    text = foreign[-1].strip() if foreign and not error else ""
    return replace(TerminationMessage(error=error, remedy=remedy, text=text), **log.counts)


def whole_lines(message: str) -> list[str]:
    """The last lines of a log, without events that were cut at either end."""
    lines = [line for line in message.splitlines() if line.strip()]
    return [
        line for number, line in enumerate(lines) if parse_line(line) is not None or not _cut(line, first=not number)
    ]


def _cut(line: str, *, first: bool) -> bool:
    return line.lstrip().startswith('{"event"') or (first and line.rstrip().endswith("}") and '": ' in line)


def readable(line: str) -> str:
    """A line of a log for people: an event of the runner in words, any other line as it is."""
    event = parse_line(line)
    return line if event is None else event_line(event)
