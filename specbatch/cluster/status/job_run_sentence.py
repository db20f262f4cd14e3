"""How a run on the cluster stands, in a sentence: since when, why, and what to do where it does not go on by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from specbatch.cluster.jobs.job_view import condition
from specbatch.cluster.jobs.timestamps import age, ago
from specbatch.cluster.status.job_run_status import JobRunStatus, RunState
from specbatch.cluster.status.pod_shard_status import AT_WORK
from specbatch.cluster.status.pod_state import waits_for
from specbatch.formatting import rough_duration


def sentence_of(status: JobRunStatus) -> str:
    """The sentence; it begins with the state."""
    return _SENTENCES[status.state](status)


def _complete(status: JobRunStatus) -> str:
    start, end = (age(status.view.status.get(name), status.clock) for name in ("startTime", "completionTime"))
    if start is None or end is None:
        return "complete"
    return f"complete {rough_duration(end)} ago, after {rough_duration(max(0.0, start - end))}"


def _failed(status: JobRunStatus) -> str:
    when = ago((status.view.failing or {}).get("lastTransitionTime"), status.clock)
    return f"{f'failed {when}'.rstrip()}: {_why_failed(status)}"


def _failing(status: JobRunStatus) -> str:
    return f"failing: {_why_failed(status)}; its pods are being stopped"


def _cancelled(status: JobRunStatus) -> str:
    return f"cancelled: specbatch resume {status.view.command_args} goes on where it was"


def _suspended(status: JobRunStatus) -> str:
    return f"suspended{_since_suspended(status)}: specbatch resume {status.view.command_args} goes on where it was"


def _queued(status: JobRunStatus) -> str:
    told = f": {status.queued}" if status.queued else ""
    return f"queued by Kueue in {status.view.queue}{_since_suspended(status)}{told}"


def _pending(status: JobRunStatus) -> str:
    waiting = [one.pod for one in status.shards if one.verdict == "pending" and one.pod is not None]
    restarting = status.counts.get("restarting", 0)
    if not waiting and restarting:
        return f"pending: {_pods(restarting)} ended, others come in their place"
    if not waiting:
        return "pending: no pod yet"
    since = min(str(pod["metadata"].get("creationTimestamp", "")) for pod in waiting)
    reason, _ = Counter(waits_for(pod) for pod in waiting).most_common(1)[0]
    return f"pending: {_pods(len(waiting))}{_for(since, status.clock)}: {reason}"


def _at_work(status: JobRunStatus) -> str:
    begun = ago(status.view.status.get("startTime"), status.clock)
    started = f" (started {begun})" if begun else ""
    if len(status.shards) == 1:
        return status.shards[0].sentence + started
    at_work = sum(status.counts.get(verdict, 0) for verdict in AT_WORK)
    said = f"{status.state}: {at_work:,} of {len(status.shards):,} shards at work"
    steps = Counter(one.log.step for one in status.shards if one.verdict == "starting" and one.log and one.log.step)
    step = steps.most_common(1)[0][0] if steps and status.state == "starting" else ""
    return f"{said}{f': {step}' if step else ''}{started}"


_SENTENCES: Mapping[RunState, Callable[[JobRunStatus], str]] = {
    "complete": _complete,
    "failed": _failed,
    "failing": _failing,
    "cancelled": _cancelled,
    "deleting": lambda _: "deleting: the Job is on its way out",
    "not started": lambda _: "not started: submit was stopped half-way; submit the same file again",
    "queued": _queued,
    "suspended": _suspended,
    "pending": _pending,
    "starting": _at_work,
    "running": _at_work,
    "finishing": lambda _: "finishing: every shard has ended, the Job will in a moment",
}


def _why_failed(status: JobRunStatus) -> str:
    """What a pod said last, or what Kubernetes says."""
    told = next((one for one in status.shards if one.verdict in {"failed", "restarting"} and one.pod is not None), None)
    failed = status.view.failing or {}
    said = ": ".join(str(failed[name]) for name in ("reason", "message") if failed.get(name))
    if told is None or failed.get("reason") == "DeadlineExceeded":
        return said or "nothing says why"
    return told.why if len(status.shards) == 1 else f"shard {told.shard}: {told.why}"


def _since_suspended(status: JobRunStatus) -> str:
    return _for((condition(status.view.job, "Suspended") or {}).get("lastTransitionTime"), status.clock)


def _for(time: str | None, clock: float) -> str:
    seconds = age(time, clock)
    return "" if seconds is None else f" for {rough_duration(seconds)}"


def _pods(number: int) -> str:
    return f"{number:,} pod{'' if number == 1 else 's'}"
