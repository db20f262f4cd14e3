"""Waiting for a Job's end on the terminal: changes and the pods' logs are shown, and Ctrl-C leaves the Job alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

from specbatch.cli.output import say

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster
    from specbatch.cluster.client.flags import Flags
    from specbatch.cluster.client.kinds import Object
    from specbatch.cluster.jobs.job_view import JobView

INTERRUPTED = 130
_CODES = {"complete": 0, "timeout": 124}
_LAST_LINES_SECONDS = 15.0
_OUTAGE_SHOWN_SECONDS = 10.0


def wait_for_job(
    cluster: Cluster,
    job: Object,
    *,
    seconds: float | None,
    emit: Callable[[str], None],
    follow: bool = False,
) -> tuple[dict[str, Any], int]:
    """Waits for a Job's end. Each change of its state and of its shards is a line, and with `follow` each line of its pods.

    Returns:
        The Job as plain data, and the exit code: 0 complete, 124 time is up, 1 all else.

    Raises:
        Exit: Ctrl-C.
    """
    from specbatch.cluster.jobs.job_view import JobView
    from specbatch.cluster.jobs.messages import job_document, wait_result_lines
    from specbatch.cluster.jobs.wait import wait_for_end

    cluster.on_outage(outage_reporter(say))
    reading = follow_logs(cluster, job, emit) if follow else None
    try:
        ending = wait_for_end(cluster, job, seconds=seconds, changed=_change_reporter(emit, cluster.flags))
        if reading is not None and ending.end in {"complete", "failed"}:
            reading.join(_LAST_LINES_SECONDS)
    except KeyboardInterrupt:
        view = JobView(job)
        say(f"detached: Job {view.name} goes on; {cluster.flags.command('status', view.run)} shows it")
        raise typer.Exit(INTERRUPTED) from None
    for line in wait_result_lines(ending, cluster.flags):
        emit(line)
    return job_document(JobView(ending.job), end=ending.end, reason=ending.reason), _CODES.get(ending.end, 1)


def _change_reporter(emit: Callable[[str], None], flags: Flags) -> Callable[[JobView], None]:
    """Emits a line where the state of a Job or the number of its ended shards is another than before."""
    from specbatch.cluster.jobs.messages import progress_text
    from specbatch.cluster.jobs.run import state_of

    shown: tuple[object, ...] = ()

    def changed(view: JobView) -> None:
        nonlocal shown
        state = state_of(view)
        if state == "pending" and shown[:1] == ("running",) and _all_have_pods(view):
            state = "running"  # its last pods are ending: not ready any more, and not counted yet
        seen = state, len(view.completed), len(view.failed)  # pods come and go
        if seen != shown:
            emit(progress_text(view, state, flags))
            shown = seen

    return changed


def _all_have_pods(view: JobView) -> bool:
    """Whether every shard is done, given up, or has a pod."""
    pods = int(view.status.get("active") or 0) + int(view.status.get("terminating") or 0)
    uncounted = view.status.get("uncountedTerminatedPods") or {}
    pods += sum(len(uncounted.get(kind) or ()) for kind in ("succeeded", "failed"))
    return len(view.completed) + len(view.failed) + pods >= view.completions


def outage_reporter(say: Callable[[str], None]) -> Callable[[float | None], None]:
    """Says once that the API server is away when it has been for ten seconds, and once that it is back."""
    away = False

    def report(seconds: float | None) -> None:
        nonlocal away
        if seconds is None:
            if away:
                say("the API server answers again")
            away = False
        elif seconds >= _OUTAGE_SHOWN_SECONDS and not away:
            away = True
            say(
                f"the API server has not answered for {seconds:.0f} s: the Job is not affected, and is looked for until it answers"
            )

    return report


def follow_logs(cluster: Cluster, job: Object, emit: Callable[[str], None]) -> threading.Thread:
    """Reads the pods' logs beside the wait; where they cannot be read, the wait goes on."""
    from specbatch.cluster.logs.logs import follow_run
    from specbatch.errors import ClusterError

    def read() -> None:
        try:
            follow_run(cluster, job, emit)
        except ClusterError as error:
            say(f"warning: logs cannot be followed: {error}")

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread
