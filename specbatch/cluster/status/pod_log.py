"""What a pod says of its run: the lines of its log, and the termination message that Kubernetes keeps of it.

The runner writes JSON lines (specbatch.runner.display) and, where it fails, `error: ...`; libraries write whatever they like in
between. A log may be cut anywhere. Nothing here fails: what is no line of the runner's is somebody else's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import msgspec

from specbatch.formatting import pluralize, rough_duration
from specbatch.results.summary import RunSummary

_ERROR = "error: "
_ERROR_LINES = 12  # a spec may have many problems
_COUNTS = ("rows", "errors", "dataset_rows", "old_rows", "old_rows_here")


class Started(msgspec.Struct, frozen=True, tag_field="event", tag="start"):
    """An attempt begins."""

    name: str
    results: str = ""


class Step(msgspec.Struct, frozen=True, tag_field="event", tag="step"):
    """Something takes a while now, or is worth knowing."""

    message: str


class Look(msgspec.Struct, frozen=True, tag_field="event", tag="progress"):
    """The fields of runner.progress.Progress."""

    seconds: float = 0.0
    rows: int = 0
    total_rows: int | None = None
    errors: int = 0
    skipped: int = 0
    active: int | None = None
    completion_tokens: int = 0
    tokens_per_second: float = 0.0
    acceptance_rate: float = 0.0
    mean_acceptance_length: float = 1.0
    num_speculative_tokens: int = 0
    eta_seconds: float | None = None
    fraction_of_ceiling: float | None = None
    phase_seconds: dict[str, float] = {}
    publish: dict[str, Any] | None = None
    total_rows_estimated: bool = False
    dataset_rows: int | None = None
    old_rows: int = 0
    old_rows_here: int = 0
    waiting: str = ""

    def fields(self) -> dict[str, Any]:
        """As results.look takes them."""
        return msgspec.structs.asdict(self)


class Ended(msgspec.Struct, frozen=True, tag_field="event", tag="end"):
    """An attempt ended its shard."""

    summary: RunSummary
    results: str = ""


Event = Started | Step | Look | Ended
_DECODER: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def parse_line(line: str) -> Event | None:
    """The event that a line of a log is; None for any other line."""
    if not line.lstrip().startswith("{"):
        return None
    try:
        return _DECODER.decode(line)
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class PodLog:
    """What the last lines of a log say of the newest attempt in it.

    Attributes:
        step: the last step that was told.
        look: the last look at the run.
        summary: of an attempt that ended its shard.
        error: why it failed, with the remedy.
    """

    step: str = ""
    look: Look | None = None
    summary: RunSummary | None = None
    error: str = ""

    @property
    def counts(self) -> dict[str, int]:
        """rows, errors, dataset_rows, old_rows and old_rows_here of the shard, as far as they are told."""
        known: dict[str, int | None] = {}
        if self.summary is not None:
            ended, totals = self.summary.ended, self.summary.totals
            known = {"rows": totals.rows, "errors": totals.errors, "dataset_rows": self.summary.dataset_rows}
            known |= {name: getattr(ended, name) for name in _COUNTS if hasattr(ended, name)}
        elif self.look is not None:
            known = {name: getattr(self.look, name) for name in _COUNTS}
        return {name: value for name, value in known.items() if value is not None}

    @property
    def stage(self) -> Literal["silent", "starting", "running", "ended", "failed"]:
        """How far it is."""
        if self.error:
            return "failed"
        if self.summary is not None:
            return "ended"
        if self.look is not None:
            return "running"
        return "starting" if self.step else "silent"


def read_log(lines: Iterable[str]) -> PodLog:
    """What lines of a log say, the first of which may be cut."""
    step, error = "", list[str]()
    look: Look | None = None
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
            step, error, look, summary = "started", [], None, None
        elif isinstance(event, Step):
            step = event.message
        elif isinstance(event, Look):
            look = event
        elif isinstance(event, Ended):
            summary = event.summary
    return PodLog(step=step, look=look, summary=summary, error="\n".join(error).strip())


@dataclass(frozen=True, slots=True)
class LastWord:
    """The termination message of a pod; fields that it does not have, or has of another kind, are None or empty.

    Attributes:
        text: a message that is none of the runner's own: the end of the log, or what the kernel's killer left of it.
    """

    exit_code: int | None = None
    meaning: str = ""
    error: str = ""
    where: str = ""
    remedy: str = ""
    rows: int | None = None
    errors: int | None = None
    results: int | None = None
    completion_tokens: int | None = None
    seconds: float | None = None
    tokens_per_second: float | None = None
    acceptance_rate: float | None = None
    shard: int | None = None
    shards: int | None = None
    dataset_rows: int | None = None
    old_rows: int | None = None
    old_rows_here: int | None = None
    text: str = field(default="", kw_only=True)

    @property
    def counts(self) -> dict[str, int]:
        """As those of `PodLog`."""
        return {name: count for name in _COUNTS if (count := getattr(self, name)) is not None}

    @property
    def reason(self) -> str:
        """Why it failed in one line; empty where nothing is said."""
        said = f"{self.where}: {self.error}" if self.where and self.error else self.error
        return " ".join((said or self.text).split())


_NAMES = {"exitCode": "exit_code"}
_NUMBERS = (*_COUNTS, "results", "completion_tokens", "shard", "shards", "exitCode")
_FRACTIONS = ("seconds", "tokens_per_second", "acceptance_rate")
_TEXTS = ("meaning", "error", "where", "remedy")


def read_last_word(message: str) -> LastWord:
    """A termination message, the runner's JSON or the end of a log (FallbackToLogsOnError)."""
    value = _object(message)
    if value is None:
        return _from_log(message)
    found: dict[str, Any] = {}
    for name in (*_NUMBERS, *_FRACTIONS, *_TEXTS):
        given = value.get(name)
        kind = int if name in _NUMBERS else float if name in _FRACTIONS else str
        if kind is float and isinstance(given, int) and not isinstance(given, bool):
            given = float(given)
        if isinstance(given, kind) and not isinstance(given, bool):
            found[_NAMES.get(name, name)] = given
    return LastWord(**found)


def _object(message: str) -> Mapping[str, Any] | None:
    try:
        value = json.loads(message)
    except (ValueError, RecursionError):
        return None
    # One line of a log, where nothing else was in it, is an object as well.
    return value if isinstance(value, dict) and "event" not in value else None


def _from_log(message: str) -> LastWord:
    lines = message.splitlines()
    log = read_log(lines)
    foreign = [line for line in whole_lines(message) if parse_line(line) is None]
    error, _, remedy = log.error.partition("\n  remedy: ")
    text = foreign[-1].strip() if foreign and not error else ""
    counts: dict[str, Any] = log.counts
    return replace(LastWord(error=error, remedy=remedy, text=text), **counts)


def whole_lines(message: str) -> list[str]:
    """The lines of the end of a log, without events that were cut at either end of it."""
    lines = [line for line in message.splitlines() if line.strip()]
    return [
        line for number, line in enumerate(lines) if parse_line(line) is not None or not _cut(line, first=not number)
    ]


def _cut(line: str, *, first: bool) -> bool:
    return line.lstrip().startswith('{"event"') or (first and line.rstrip().endswith("}") and '": ' in line)


def readable(line: str) -> str:
    """A line of a log for people: an event of the runner in words, any other line as it is."""
    event = parse_line(line)
    match event:
        case Started(name=name, results=results):
            return f"started {name}" + (f", results in {results}" if results else "")
        case Step(message=message):
            return message
        case Look():
            return _look_text(event)
        case Ended(summary=summary):
            said = f"{summary.totals.results:,} results, {pluralize(summary.totals.errors, 'error')}"
            return (
                f"done: {said} · {summary.tokens_per_second:,.0f} tokens/s · acceptance {summary.acceptance_rate:.3f}"
            )
        case _:
            return line


def _look_text(look: Look) -> str:
    about = "about " if look.total_rows_estimated and look.total_rows is not None else ""
    total = "?" if look.total_rows is None else f"{about}{look.total_rows:,}"
    parts = [f"rows {look.rows:,} of {total}"]
    if look.errors:
        parts.append(pluralize(look.errors, "error"))
    parts.append(f"{look.tokens_per_second:,.0f} tokens/s")
    if look.num_speculative_tokens or look.acceptance_rate:
        parts.append(f"acceptance {look.acceptance_rate:.3f}")
    if look.eta_seconds is not None:
        parts.append(f"{rough_duration(look.eta_seconds)} left")
    return " · ".join(parts)
