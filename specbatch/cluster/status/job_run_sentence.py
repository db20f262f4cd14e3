"""The status of a run on the cluster in one sentence: since when, why, and what to do where it does not go on by itself."""

from __future__ import annotations

from collections import Counter

from specbatch.cluster.jobs.job_view import condition
from specbatch.cluster.jobs.timestamps import age, ago
from specbatch.cluster.status.job_run_status import JobRunStatus
from specbatch.cluster.status.pod_shard_status import AT_WORK
from specbatch.cluster.status.pod_state import waits_for
from specbatch.formatting import pluralize, rough_duration


def sentence_of(status: JobRunStatus) -> str:  # noqa: C901, PLR0911 - one case for each state
    """The sentence; it begins with the state."""
    resume = f"specbatch resume {status.view.command_args} goes on where it was"
    match status.state:
        case "complete":
            start, end = (age(status.view.status.get(name), status.clock) for name in ("startTime", "completionTime"))
            if start is None or end is None:
                return "complete"
            return f"complete {rough_duration(end)} ago, after {rough_duration(max(0.0, start - end))}"
        case "failed":
            when = ago((status.view.failing or {}).get("lastTransitionTime"), status.clock)
            return f"{f'failed {when}'.rstrip()}: {_why_failed(status)}"
        case "failing":
            return f"failing: {_why_failed(status)}; its pods are being stopped"
        case "cancelled":
            return f"cancelled: {resume}"
        case "suspended":
            return f"suspended{_since_suspended(status)}: {resume}"
        case "queued":
            message = f": {status.queued}" if status.queued else ""
            return f"queued by Kueue in {status.view.queue}{_since_suspended(status)}{message}"
        case "deleting":
            return "deleting: the Job is being deleted"
        case "not started":
            return "not started: submit was stopped half-way; submit the same file again"
        case "finishing":
            return "finishing: every shard has ended, the Job will in a moment"
        case "pending":
            return _pending(status)
        case "starting" | "running":
            return _at_work(status)


def _pending(status: JobRunStatus) -> str:
    waiting = [one.pod for one in status.shards if one.verdict == "pending" and one.pod is not None]
    restarting = status.counts.get("restarting", 0)
    if not waiting and restarting:
        return f"pending: {pluralize(restarting, 'pod')} ended, and will be replaced"
    if not waiting:
        return "pending: no pod yet"
    since = min(str(pod["metadata"].get("creationTimestamp", "")) for pod in waiting)
    reason, _ = Counter(waits_for(pod) for pod in waiting).most_common(1)[0]
    return f"pending: {pluralize(len(waiting), 'pod')}{_for(since, status.clock)}: {reason}"


def _at_work(status: JobRunStatus) -> str:
    begun = ago(status.view.status.get("startTime"), status.clock)
    started = f" (started {begun})" if begun else ""
    if len(status.shards) == 1:
        return status.shards[0].sentence + started
    at_work = sum(status.counts.get(verdict, 0) for verdict in AT_WORK)
    steps = Counter(one.log.step for one in status.shards if one.verdict == "starting" and one.log and one.log.step)
    step = f": {steps.most_common(1)[0][0]}" if steps and status.state == "starting" else ""
    return f"{status.state}: {at_work:,} of {len(status.shards):,} shards at work{step}{started}"


def _why_failed(status: JobRunStatus) -> str:
    """The error of a pod, or the Job's condition."""
    told = next((one for one in status.shards if one.verdict in {"failed", "restarting"} and one.pod is not None), None)
    failed = status.view.failing or {}
    said = ": ".join(str(failed[name]) for name in ("reason", "message") if failed.get(name))
    if told is None or failed.get("reason") == "DeadlineExceeded":
        return said or "no reason is given"
    return told.why if len(status.shards) == 1 else f"shard {told.shard}: {told.why}"


def _since_suspended(status: JobRunStatus) -> str:
    return _for((condition(status.view.job, "Suspended") or {}).get("lastTransitionTime"), status.clock)


def _for(time: str | None, clock: float) -> str:
    seconds = age(time, clock)
    return "" if seconds is None else f" for {rough_duration(seconds)}"
