"""The runs of a namespace, or of all of them, as a table."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from specbatch.cluster.jobs.lookup import find_jobs
from specbatch.cluster.jobs.run import Run, group_into_runs, retry_number
from specbatch.cluster.jobs.timestamps import age
from specbatch.formatting import format_table, rough_duration

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster


def runs(cluster: Cluster, *, all_namespaces: bool = False) -> list[Run]:
    """The runs that there are Jobs of, the newest first."""
    return group_into_runs(find_jobs(cluster, all_namespaces=all_namespaces))


def runs_text(found: Sequence[Run], *, all_namespaces: bool = False, now: float | None = None) -> str:
    """A table with a line for each."""
    now = time.time() if now is None else now
    rows = [("namespace", "run", "state", "done", "failed", "age", "Job")]
    rows += [
        (
            run.newest.namespace,
            run.name,
            run.state,
            f"{len(run.done)}/{run.total}",
            str(len(run.failed)),
            rough_duration(age(run.newest.job["metadata"].get("creationTimestamp"), now) or 0.0),
            run.newest.name,
        )
        for run in found
    ]
    shown = rows if all_namespaces else [row[1:] for row in rows]
    return "\n".join(format_table(shown, left=range(len(shown[0]))))


def run_document(run: Run) -> dict[str, Any]:
    """A run as plain data; keys may be added, none changes."""
    newest = run.newest
    return {
        "run": run.name,
        "namespace": newest.namespace,
        "state": run.state,
        "job": newest.name,
        "shards": run.total,
        "shards_done": len(run.done),
        "shards_failed": len(run.failed),
        "tries": retry_number(newest),
        "queue": newest.queue,
        "created": newest.job["metadata"].get("creationTimestamp"),
    }
