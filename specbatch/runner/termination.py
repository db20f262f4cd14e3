"""Writes the pod's termination message (results.protocol), which Kubernetes keeps in its status however the process ends."""

from __future__ import annotations

import contextlib
import json
import os
import traceback
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec.structs import replace

from specbatch.api.job import SpecBatchJob
from specbatch.errors import ExitCode, SpecbatchError, SpecError
from specbatch.redact import redact
from specbatch.results.attempts import read_attempts
from specbatch.results.layout import run_directory
from specbatch.results.protocol import TerminationMessage, row_counts
from specbatch.results.storage.process import Process
from specbatch.results.summary import RunSummary
from specbatch.runner.dataset.lines import Shard

BUG = 1  # the exit code of an error that no user can have made
MAX_BYTES = 4096  # Kubernetes cuts off what is longer, in the middle of anything
_TERMINATION_LOG = "/dev/termination-log"
_SHORTENED = ("error", "remedy", "where")


def of_success(summary: RunSummary) -> TerminationMessage:
    """Of an attempt that has ended its shard."""
    rows = _rows(summary)
    message = TerminationMessage(
        exit_code=int(ExitCode.DONE),
        meaning=ExitCode.DONE.meaning,
        results=rows["rows"] - rows["errors"],
        completion_tokens=summary.completion_tokens,
        seconds=round(summary.seconds, 3),
        tokens_per_second=round(summary.tokens_per_second, 3),
        acceptance_rate=round(summary.acceptance_rate, 4) if summary.drafted else None,
    )
    return replace(message, **rows)


def of_error(error: Exception) -> TerminationMessage:
    """Of an error: a user's, or a bug."""
    if not isinstance(error, SpecbatchError):
        said = traceback.format_exception_only(error)[-1].strip()
        return TerminationMessage(
            exit_code=BUG, meaning="a bug in specbatch; the log has the traceback", error=redact(said)
        )
    message, remedy = error.message, error.remedy
    if isinstance(error, SpecError) and error.problems:
        message = "; ".join(f"{problem.path}: {problem.message}" for problem in error.problems)
        remedy = "; ".join(dict.fromkeys(problem.remedy for problem in error.problems if problem.remedy))
    code = error.exit_code
    return TerminationMessage(
        exit_code=int(code), meaning=code.meaning, error=message, where=error.where or "", remedy=remedy or ""
    )


def of_usage(usage: str) -> TerminationMessage:
    """Where the command itself is wrong."""
    return TerminationMessage(exit_code=int(ExitCode.BAD_SPEC), meaning=ExitCode.BAD_SPEC.meaning, error=usage)


def rows_so_far(job: SpecBatchJob, shard: Shard) -> dict[str, int]:
    """Rows of the shard that have ended, as this process saved them last; nothing where it came to none."""
    attempts = read_attempts(run_directory(job.spec.results.dir, job.results_name), shard.number, shard.count)
    if not attempts or attempts[-1].process != Process.current():  # an earlier attempt's, or of another run
        return {}
    return _rows(attempts[-1].summary)


def _rows(summary: RunSummary) -> dict[str, int]:
    return row_counts(summary)


def leave_message(message: TerminationMessage, env: Mapping[str, str] = os.environ) -> None:
    """Writes the termination message, where there is a file for it."""
    path = Path(env.get("TERMINATION_LOG", _TERMINATION_LOG))
    with contextlib.suppress(OSError):
        if path.exists():
            path.write_bytes(encoded(message))


def encoded(message: TerminationMessage) -> bytes:
    """The message as JSON that fits: long texts are shortened, the longest first."""
    while len(data := _json(message)) > MAX_BYTES:
        name = max(_SHORTENED, key=lambda one: len(getattr(message, one)))
        text = getattr(message, name).removesuffix("…")
        message = replace(message, **{name: text[: len(text) * 9 // 10] + "…"})
    return data


def _json(message: TerminationMessage) -> bytes:
    return json.dumps(msgspec.to_builtins(message), ensure_ascii=False).encode("utf-8", "replace")
