"""The state of a shard in a word, and what to do about it: from its last attempt, its manifest and whether its process lives."""

from __future__ import annotations

from typing import Literal

from specbatch.formatting import one_line, rough_duration
from specbatch.results.attempts import Attempt
from specbatch.results.manifest import Manifest

Verdict = Literal["complete", "running", "starting", "waiting", "incomplete", "stopped", "failed", "killed"]
Judgement = tuple[Verdict, str]
"""The verdict, and the sentence that people read."""
AT_WORK: frozenset[Verdict] = frozenset({"running", "starting"})

_SILENT_SECONDS = 60.0  # the writer saves its progress every two seconds
_REASON_CHARS = 300
_AGAIN = "start the same command again"


def judge(last: Attempt | None, manifest: Manifest | None, *, locked: bool, age_seconds: float) -> Judgement:
    """Judges one shard.

    Args:
        last: its newest attempt.
        manifest: its own, of the last split.
        locked: whether the kernel shows a writer of its rows.
        age_seconds: since the attempt was last saved.
    """
    alive = last.process.alive if last and last.process else None
    if last is None or last.outcome != "running" or alive is False:
        if manifest is not None and manifest.complete and (last is None or last.outcome != "failed"):
            return "complete", _complete(last, alive=bool(alive))
        if locked and not alive:
            return "starting", "starting: reading back what is finished"
    if last is None:
        if manifest is None:
            return "waiting", "not started"
        return "incomplete", f"incomplete: {_AGAIN}"
    alive = True if locked else alive
    if last.outcome == "running":
        return _running(last, alive, age_seconds)
    return _ended(last, manifest, alive, age_seconds)


def _complete(last: Attempt | None, *, alive: bool) -> str:
    if last is None or last.now.publish is None or not last.now.publish.pending_files:
        return "complete"
    return "complete: publishing the rest" if alive else f"complete, but not all published: {_AGAIN}"


def _running(last: Attempt, alive: bool | None, age: float) -> Judgement:
    if alive is False:
        return "killed", f"killed: {_AGAIN}"
    if age >= _SILENT_SECONDS:
        silent = f"no progress was saved for {rough_duration(age)}"
        if alive:
            return "running", f"running, but {silent}: it may hang"
        return "killed", f"killed? {silent}: unless it still runs, {_AGAIN}"
    if last.now.waiting:
        return "running", "running, and waits for the dataset"
    if not last.now.seconds:
        return "starting", "starting: loading, nothing is decoded yet"
    return "running", "running"


def _ended(last: Attempt, manifest: Manifest | None, alive: bool | None, age: float) -> Judgement:
    match last.outcome:
        case "stopped":
            return "stopped", f"stopped: {_AGAIN}"
        case "failed":
            reason = one_line(last.reason.partition("\n  remedy: ")[0], _REASON_CHARS)
            return "failed", f"failed: {reason or 'its own output says why'}"
        case "done":
            written = manifest is not None and [one.number for one in manifest.attempts[-1:]] == [last.number]
            if not written and (alive or (alive is None and age < _SILENT_SECONDS)):
                return "running", f"decoded: {'publishing the rest' if last.now.publish else 'writing the manifest'}"
            return "incomplete", f"decoded, but it ended before everything was written: {_AGAIN}"
        case _:
            return "killed", f"killed: {_AGAIN}"
