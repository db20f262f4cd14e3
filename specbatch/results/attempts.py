"""The progress file: what each attempt at a shard has done, readable from outside while it runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from specbatch.errors import ResultsError
from specbatch.results.layout import ShardFile
from specbatch.results.storage.durable import write_atomic
from specbatch.results.storage.folder import Folder
from specbatch.results.storage.process import Process
from specbatch.results.storage.typed import as_type, load_json
from specbatch.results.summary import RunSummary
from specbatch.results.timeline import Sample

Outcome = Literal["running", "done", "stopped", "failed", "killed"]
_TIMELINES_KEPT = 10
_Time = msgspec.Meta(ge=0, le=1e11)  # that a calendar can say


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One process' work on a shard. Times are Unix times in seconds; `killed` ones ended without a word.

    `now` is the last look at the run (the fields of runner.progress.Progress), empty before decoding began; `process` who wrote it;
    `reason` why it failed; `moved` as `ShardResults.moved`; `synced` name -> bytes on the disk, of the files that may end in
    a torn line. Files of earlier versions have none of them.
    """

    number: int  # from 1
    started_at: float
    updated_at: float
    outcome: Outcome
    summary: RunSummary
    timeline: Sequence[Sample] = ()
    now: Mapping[str, Any] = field(default_factory=dict)
    process: Process | None = None
    reason: str = ""
    moved: int = 0
    synced: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As the file keeps it."""
        return {
            "number": self.number,
            "started_at": self.started_at,
            "updated_at": self.updated_at,
            "outcome": self.outcome,
            "reason": self.reason,
            "moved": self.moved,
            "synced": dict(self.synced),
            "process": None if self.process is None else self.process.to_json(),
            "now": dict(self.now),
            "summary": self.summary.to_json(),
            "timeline": [sample.to_json() for sample in self.timeline],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Attempt:
        """From the file."""
        head = as_type(value, _Head)
        process = value.get("process")
        as_type(value.get("now", {}), _Look)
        return cls(
            number=head.number,
            started_at=head.started_at,
            updated_at=head.updated_at,
            outcome=head.outcome,
            summary=RunSummary.from_json(value["summary"]),
            timeline=tuple(Sample.from_json(sample) for sample in value["timeline"]),
            now=value.get("now", {}),
            process=None if process is None else Process.from_json(process),
            reason=head.reason,
            moved=head.moved,
            synced=head.synced,
        )


class _Head(msgspec.Struct):
    """What an attempt must be, for it is counted with."""

    number: int
    started_at: Annotated[float, _Time]
    updated_at: Annotated[float, _Time]
    outcome: Outcome
    reason: str = ""
    moved: int = 0
    synced: dict[str, int] = {}


class _Look(msgspec.Struct):
    """What a look must be, as far as it goes: it is shown."""

    rows: int = 0
    total_rows: int | None = None
    active: int | None = None
    tokens_per_second: float = 0.0
    acceptance_rate: float = 0.0
    mean_acceptance_length: float = 1.0
    num_speculative_tokens: int = 0
    eta_seconds: float | None = None
    fraction_of_ceiling: float | None = None
    phase_seconds: dict[str, float] = {}
    waiting: str = ""


def read_attempts(run_dir: Path | Folder, shard: int, shards: int) -> tuple[Attempt, ...]:
    """The attempts so far; none where the file is missing or broken: it is for people, and no result depends on it."""
    folder = run_dir if isinstance(run_dir, Folder) else Folder(run_dir)
    try:
        value = load_json(folder.read(ShardFile("progress", shard, shards).name))
        return tuple(Attempt.from_json(attempt) for attempt in value["attempts"])
    except (ResultsError, ValueError, KeyError, TypeError, AttributeError):
        return ()


def write_attempts(run_dir: Path, shard: int, shards: int, attempts: Sequence[Attempt]) -> None:
    """Replaces the file; old attempts lose their timelines, so that it stays small."""
    cut = max(0, len(attempts) - _TIMELINES_KEPT)
    kept = [replace(attempt, timeline=()) for attempt in attempts[:cut]] + list(attempts[cut:])
    value = {"attempts": [attempt.to_json() for attempt in kept]}
    path = run_dir / ShardFile("progress", shard, shards).name
    write_atomic(path, json.dumps(value).encode() + b"\n", durable=False)


def forget_synced(path: Path) -> None:
    """Of a progress file that came from elsewhere: what it says of bytes on a disk is not true of this one. A broken file stays as it is."""
    try:
        value = load_json(path.read_bytes())
        marks = [attempt.pop("synced", None) for attempt in value["attempts"]]
    except (ValueError, KeyError, TypeError, AttributeError):
        return
    if any(marks):
        path.write_bytes(json.dumps(value).encode() + b"\n")
