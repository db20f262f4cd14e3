"""The progress file: what each attempt at a shard has done, readable from outside while it runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from specbatch.errors import ResultsError
from specbatch.results.layout import ShardFile
from specbatch.results.protocol import LATEST_TIME, Progress
from specbatch.results.storage.durable import write_atomic
from specbatch.results.storage.folder import Folder
from specbatch.results.storage.process import Process
from specbatch.results.storage.typed import as_type, load_json
from specbatch.results.summary import RunSummary
from specbatch.results.timeline import Sample

Outcome = Literal["running", "done", "stopped", "failed", "killed"]
_TIMELINES_KEPT = 10
_Time = Annotated[float, msgspec.Meta(ge=0, le=LATEST_TIME)]


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One process' work on a shard. Times are Unix times in seconds; `killed` ones ended without a word.

    `now` is the last snapshot of the run, `process` who wrote it; `reason` why it failed; `synced`
    name -> bytes on the disk, of the files that may end in a torn line. Files of earlier versions have none of them.
    """

    number: int  # from 1
    started_at: _Time
    updated_at: _Time
    outcome: Outcome
    reason: str = ""
    synced: dict[str, int] = {}
    process: Process | None = None
    now: Progress = Progress()
    summary: RunSummary
    timeline: tuple[Sample, ...] = ()


class _ProgressFile(msgspec.Struct):
    attempts: tuple[Attempt, ...]


def read_attempts(run_dir: Path | Folder, shard: int, shards: int) -> tuple[Attempt, ...]:
    """The attempts so far; none where the file is missing or broken: it is for people, and no result depends on it."""
    folder = run_dir if isinstance(run_dir, Folder) else Folder(run_dir)
    try:
        value = load_json(folder.read(ShardFile("progress", shard, shards).name))
        return as_type(value, _ProgressFile).attempts
    except (ResultsError, ValueError):
        return ()


def write_attempts(run_dir: Path, shard: int, shards: int, attempts: Sequence[Attempt]) -> None:
    """Replaces the file; old attempts lose their timelines, so that it stays small."""
    cut = max(0, len(attempts) - _TIMELINES_KEPT)
    kept = [msgspec.structs.replace(attempt, timeline=()) for attempt in attempts[:cut]]
    value = msgspec.to_builtins(_ProgressFile((*kept, *attempts[cut:])))
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
