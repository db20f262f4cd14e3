"""The last word of a pod: one JSON object that Kubernetes keeps in the pod's status, however the process ends.

    {"exitCode": 66, "meaning": "model missing or not permitted", "error", "where", "remedy", "rows": 12, "errors": 0, "shard": 3, "shards": 16}
    {"exitCode": 0, "meaning": "done", "rows", "results", "errors", "completion_tokens", "seconds", "tokens_per_second",
     "acceptance_rate", "dataset_rows", "old_rows", "old_rows_here", "shard", "shards"}

`rows` and `errors` are of the shard's share, and left out where no row was looked at; `dataset_rows` those of all shards, where the
dataset was read to its end; `old_rows` as in results.ended; the others of this attempt. A bug has exit code 1.
"""

from __future__ import annotations

import contextlib
import json
import os
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from specbatch.api.job import SpecBatchJob
from specbatch.errors import ExitCode, SpecbatchError, SpecError
from specbatch.redact import redact
from specbatch.results.attempts import read_attempts
from specbatch.results.layout import run_directory
from specbatch.results.storage.process import Process
from specbatch.results.summary import RunSummary
from specbatch.runner.dataset.dataset import Shard

BUG = 1  # the exit code of an error that no user can have made
MAX_BYTES = 4096  # Kubernetes cuts off what is longer, in the middle of anything
_TERMINATION_LOG = "/dev/termination-log"
_SHORTENED = ("error", "remedy", "where")


def of_success(summary: RunSummary) -> dict[str, Any]:
    """What is said of an attempt that has ended its shard."""
    rows = _rows(summary)
    return {
        "exitCode": int(ExitCode.DONE),
        "meaning": ExitCode.DONE.meaning,
        **rows,
        "results": rows["rows"] - rows["errors"],
        "completion_tokens": summary.completion_tokens,
        "seconds": round(summary.seconds, 3),
        "tokens_per_second": round(summary.tokens_per_second, 3),
        "acceptance_rate": round(summary.acceptance_rate, 4),
    }


def of_error(error: Exception) -> dict[str, Any]:
    """What is said of an error: a user's, or a bug."""
    if not isinstance(error, SpecbatchError):
        said = traceback.format_exception_only(error)[-1].strip()
        return {"exitCode": BUG, "meaning": "a bug in specbatch; the log has the traceback", "error": redact(said)}
    value: dict[str, Any] = {"exitCode": int(error.exit_code), "meaning": error.exit_code.meaning}
    message, remedy = error.message, error.remedy
    if isinstance(error, SpecError) and error.problems:
        message = "; ".join(f"{problem.path}: {problem.message}" for problem in error.problems)
        remedy = "; ".join(dict.fromkeys(problem.remedy for problem in error.problems if problem.remedy))
    return value | {
        name: text for name, text in (("error", message), ("where", error.where), ("remedy", remedy)) if text
    }


def of_usage(usage: str) -> dict[str, Any]:
    """What is said where the command itself is wrong."""
    return {"exitCode": int(ExitCode.BAD_SPEC), "meaning": ExitCode.BAD_SPEC.meaning, "error": usage}


def rows_so_far(job: SpecBatchJob, shard: Shard) -> dict[str, int]:
    """Rows of the shard that have ended, as this process saved them last; nothing where it came to none."""
    attempts = read_attempts(run_directory(job.spec.results.dir, job.results_name), shard.number, shard.count)
    if not attempts or attempts[-1].process != Process.current():  # an earlier attempt's, or of another run
        return {}
    return _rows(attempts[-1].summary)


def _rows(summary: RunSummary) -> dict[str, int]:
    ended, known = summary.ended, summary.dataset_rows
    if ended is None:
        return {"rows": summary.totals.rows, "errors": summary.totals.errors}
    rows = {"rows": ended.rows, "errors": ended.errors}
    if known is not None:
        rows["dataset_rows"] = known
    if ended.old_rows:
        rows |= {"old_rows": ended.old_rows, "old_rows_here": ended.old_rows_here}
    return rows


def leave_message(value: Mapping[str, Any], env: Mapping[str, str] = os.environ) -> None:
    """Writes the termination message, where there is a file for it."""
    path = Path(env.get("TERMINATION_LOG", _TERMINATION_LOG))
    with contextlib.suppress(OSError):
        if path.exists():
            path.write_bytes(encoded(value))


def encoded(value: Mapping[str, Any]) -> bytes:
    """The message as JSON that fits: long texts are shortened, the longest first."""
    value = dict(value)
    while len(data := _json(value)) > MAX_BYTES:
        name = max(_SHORTENED, key=lambda one: len(value.get(one, "")))
        text = value[name].removesuffix("…")
        value[name] = text[: len(text) * 9 // 10] + "…"
    return data


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
