"""What a run says of itself, as the types that its writer and all its readers share: log lines, progress, termination message.

The runner writes the log as JSON lines, one event a line; keys may be added, none changes:

    {"event": "start", "name", "results"}
    {"event": "step", "message"}               loading, stopping, ...
    {"event": "progress", the fields of Progress}   every few seconds, and once at the end
    {"event": "end", "summary": RunSummary, "results", "report"}

A Progress is also in the progress file (results.attempts), and `specbatch status` makes one of each shard and of the run. Libraries write
whatever they like between the lines, a log may be cut anywhere, and another version may have written it: reading never fails.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec.structs import replace

from specbatch.merging import (
    Merge,
    constant,
    largest,
    largest_if_all_known,
    last_known,
    merge,
    summed_if_all_known,
    summed_known,
)
from specbatch.redact import redact_values
from specbatch.results.summary import Counters, RunSummary

LATEST_TIME = 1e11  # Unix time that a calendar can say
ROW_COUNTS = ("rows", "errors", "dataset_rows")
_UNKNOWN = Merge(at_once=constant(None))
_DIGITS = 4  # of fractions in log lines


class PublishState(msgspec.Struct, frozen=True):
    """The files of one shard that are at the destination, and those that are not yet.

    `problem` is the reason of the last failed try, empty while all goes well; `failing_since` is the Unix time at which the tries
    began to fail.
    """

    destination: str = ""
    done_files: int = 0
    done_bytes: int = 0
    pending_files: int = 0
    pending_bytes: int = 0
    problem: str = ""
    failing_since: Annotated[float, msgspec.Meta(ge=0, le=LATEST_TIME)] | None = None


def _weighted(values: Sequence[float], weights: Sequence[float]) -> float | None:
    total = sum(weights)
    return sum(value * weight for value, weight in zip(values, weights, strict=True)) / total if total > 0 else None


def _acceptance(values: Sequence[float], parts: Sequence[Progress]) -> float:
    """Over all drafted tokens; a part that has not said how many there were counts by the tokens that it generated."""
    told = all(part.drafted or not part.completion_tokens for part in parts)
    return _weighted(values, [part.drafted if told else part.completion_tokens for part in parts]) or 0.0


def _acceptance_length(values: Sequence[float], parts: Sequence[Progress]) -> float:
    """Tokens over the target forwards that they took."""
    forwards = [part.completion_tokens / value if value > 1 else 0.0 for part, value in zip(parts, values, strict=True)]
    return _weighted(values, forwards) or 1.0


class Progress(Counters, frozen=True, kw_only=True, tag_field="event", tag="progress"):
    """One snapshot of an attempt at a shard; or, by `merged`, of several shards together.

    Attributes:
        seconds: since decoding began; 0 before.
        rows: rows of the shard's share that have ended, in results or errors, those of earlier attempts included.
        total_rows: rows of its share; None where it cannot be told.
        total_rows_estimated: whether that is an estimate: the dataset was not read to its end yet.
        errors: bad rows among those that have ended.
        skipped: rows that had ended before this attempt.
        active: rows in the batch now; None where nothing decodes.
        tokens_per_second: over the last seconds.
        acceptance_rate, mean_acceptance_length: since the start.
        num_speculative_tokens: k as of now; None where shards differ.
        eta_seconds: until the last row, at the present speed; None where it cannot be told.
        fraction_of_ceiling: this attempt's tokens per second over the predicted ceiling; None where nothing is predicted yet, or the
            prediction says nothing.
        target_only_tokens_per_second: the run's estimate of what the target alone would do; None where there is none yet.
        publish: how far publishing is; None where results are not published.
        dataset_rows: rows of the whole dataset; None before it was read to its end.
        waiting: what of the dataset is out of reach now, and why; empty while it is read.
    """

    seconds: Annotated[float, Merge(at_once=largest)] = 0.0
    rows: int = 0
    total_rows: Annotated[int | None, Merge(at_once=summed_if_all_known)] = None
    errors: int = 0
    skipped: int = 0
    active: Annotated[int | None, Merge(at_once=summed_known)] = None
    tokens_per_second: float = 0.0
    acceptance_rate: Annotated[float, Merge(at_once=_acceptance)] = 0.0
    mean_acceptance_length: Annotated[float, Merge(at_once=_acceptance_length)] = 1.0
    num_speculative_tokens: Annotated[int | None, _UNKNOWN] = 0
    eta_seconds: Annotated[float | None, Merge(at_once=largest_if_all_known)] = None
    fraction_of_ceiling: Annotated[float | None, _UNKNOWN] = None
    publish: Annotated[PublishState | None, _UNKNOWN] = None
    total_rows_estimated: Annotated[bool, Merge(at_once=largest)] = False
    dataset_rows: Annotated[int | None, Merge(at_once=last_known)] = None
    target_only_tokens_per_second: Annotated[float | None, Merge(at_once=summed_if_all_known)] = None
    waiting: Annotated[str, Merge(at_once=constant(""))] = ""

    @classmethod
    def merged(cls, parts: Sequence[Progress]) -> Progress:
        """That of shards beside each other, by the rules of the fields; of one shard its own."""
        return parts[0] if len(parts) == 1 else merge(parts or [cls()], at_once=True)

    @classmethod
    def of_run(cls, shards: Sequence[Progress]) -> Progress:
        """As `merged`, with an estimate of the total: shards of which nothing is known are taken to be like the others."""
        now, known = cls.merged(shards), [one.total_rows for one in shards if one.total_rows is not None]
        total = max(now.rows, round(sum(known) * len(shards) / len(known))) if known else None
        estimated = any(one.total_rows is None or one.total_rows_estimated for one in shards)
        return replace(now, total_rows=total, total_rows_estimated=estimated)


def progress_json(now: Progress) -> dict[str, Any]:
    """The fields as plain data, for `specbatch status --output json`."""
    return {name: value for name, value in msgspec.to_builtins(now).items() if name != "event"}


class Started(msgspec.Struct, frozen=True, tag_field="event", tag="start"):
    """An attempt begins."""

    name: str
    results: str = ""


class Step(msgspec.Struct, frozen=True, tag_field="event", tag="step"):
    """Something takes a while now, or is worth knowing."""

    message: str


class Finished(msgspec.Struct, frozen=True, tag_field="event", tag="end"):
    """An attempt ended its shard."""

    summary: RunSummary
    results: str = ""
    report: str | None = None


Event = Started | Step | Progress | Finished
_EVENTS: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def log_line(event: Event) -> str:
    """The event as a line of a log: ASCII, without secrets."""
    return json.dumps(_rounded(redact_values(msgspec.to_builtins(event))))


def parse_line(line: str) -> Event | None:
    """The event that a line of a log is; None for any other line."""
    if not line.lstrip().startswith("{"):
        return None
    try:
        return _EVENTS.decode(line)
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
        return None


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    return round(value, _DIGITS) if isinstance(value, float) else value


class TerminationMessage(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"exit_code": "exitCode"}
):
    """What a pod leaves when it ends, one JSON object that Kubernetes keeps in the pod's status. What is not known is left out.

    Attributes:
        exit_code, meaning: of errors.ExitCode; a bug has exit code 1.
        error, where, remedy: of the error that ended it.
        rows, errors: of the shard's share that have ended; not there where no row was looked at.
        dataset_rows: of all shards, where the dataset was read to its end.
        results, completion_tokens, seconds, tokens_per_second, acceptance_rate: of an attempt that ended its shard.
        shard, shards: which, of how many.
        text: for a reader: a message that is none of the runner's own, such as the end of a log.
    """

    exit_code: int | None = None
    meaning: str = ""
    error: str = ""
    where: str = ""
    remedy: str = ""
    rows: int | None = None
    errors: int | None = None
    dataset_rows: int | None = None
    results: int | None = None
    completion_tokens: int | None = None
    seconds: float | None = None
    tokens_per_second: float | None = None
    acceptance_rate: float | None = None
    shard: int | None = None
    shards: int | None = None
    text: str = ""

    @property
    def reason(self) -> str:
        """Why it failed in one line; empty where nothing is said."""
        said = f"{self.where}: {self.error}" if self.where and self.error else self.error
        return " ".join((said or self.text).split())

    @classmethod
    def parse(cls, message: str) -> TerminationMessage | None:
        """Of the runner's JSON; a field of another type is as if it were not there. None where it is no such object."""
        try:
            value = json.loads(message)
        except (ValueError, RecursionError):
            return None
        if not isinstance(value, dict) or "event" in value:  # a log of one line is an object as well
            return None
        found: dict[str, Any] = {}
        for one in msgspec.structs.fields(cls):
            try:
                found[one.name] = msgspec.convert(value[one.encode_name], one.type)
            except (KeyError, msgspec.ValidationError):
                continue
        return cls(**found)


def row_counts(source: RunSummary | Progress | TerminationMessage) -> dict[str, int]:
    """rows, errors and dataset_rows of the shard, as far as they are known."""
    if not isinstance(source, RunSummary):
        found = {name: getattr(source, name) for name in ROW_COUNTS}
    elif source.ended is None:  # of an earlier version
        found = {"rows": source.totals.rows, "errors": source.totals.errors, "dataset_rows": source.dataset_rows}
    else:
        counts = msgspec.structs.asdict(source.ended) | {"dataset_rows": source.dataset_rows}
        found = {name: counts[name] for name in ROW_COUNTS}
    return {name: count for name, count in found.items() if count is not None}
