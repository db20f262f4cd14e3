"""The status of a run on the cluster as text and as JSON: like that of a folder (results.status), with its pods."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from msgspec.structs import replace

from specbatch.cluster.jobs.job_view import condition, reason_text
from specbatch.cluster.jobs.timestamps import age, ago
from specbatch.cluster.status.job_run_status import JobRunStatus
from specbatch.cluster.status.pod_shard_status import AT_WORK, PodShardStatus, Verdict
from specbatch.cluster.status.pod_state import waits_for
from specbatch.formatting import (
    first_lines,
    pluralize,
    rough_duration,
    wrap_fact,
)
from specbatch.results.protocol import progress_json
from specbatch.results.status.progress_text import progress_bar, progress_facts, rows_line, shards_table

_LINE_CHARS = 100
_ALL_SHOWN = 24  # so many shards are all in the table
_SHOWN = 16  # of more, those with problems first
_SENTENCES_SHOWN = 8
_ORDER: tuple[Verdict, ...] = ("failed", "restarting", "running", "starting", "pending", "waiting", "complete")


def render_run(status: JobRunStatus) -> str:
    """Plain lines of at most about 100 columns."""
    view = status.view
    lines = [f"{view.run}  Job {view.name}, namespace {view.namespace}"]
    lines += textwrap.wrap(sentence_of(status), _LINE_CHARS)
    lines += ["", *progress_bar(status.now, left=not status.over)]
    lines += [line for label, text in _facts(status) for line in wrap_fact(label, text)]
    if len(status.shards) > 1:
        lines += _table(status)
    notes = [*_remedies(status), *status.notes]
    lines += ["", *(line for note in notes for line in textwrap.wrap(note, _LINE_CHARS))] if notes else []
    return "\n".join(line.rstrip() for line in lines)


def run_json(status: JobRunStatus) -> dict[str, Any]:
    """The same for --output json; keys may be added, none changes."""
    view = status.view
    return {
        "name": view.run,
        "job": view.name,
        "namespace": view.namespace,
        "state": status.state,
        "sentence": sentence_of(status),
        "complete": status.state == "complete",
        **progress_json(status.now),
        "counts": dict(status.counts),
        "restarts": status.restarts,
        "restart_reasons": dict(status.reasons),
        "jobs": [job.name for job in status.run.jobs],
        "notes": list(status.notes),
        "shards": [
            {
                "shard": one.shard,
                "verdict": one.verdict,
                "sentence": one.sentence,
                "pod": one.pod["metadata"]["name"] if one.pod else None,
                "node": one.node or None,
                "restarts": one.restarts,
                "restart_reasons": one.reasons,
                "exit_code": one.termination_message.exit_code,
                **progress_json(one.now),
            }
            for one in status.shards
        ],
    }


def _facts(status: JobRunStatus) -> Iterator[tuple[str, str]]:
    if len(status.shards) > 1:
        counts = ", ".join(f"{status.counts[name]:,} {name}" for name in _ORDER if status.counts.get(name))
        yield "shards", f"{len(status.shards):,}: {counts}"
    yield from progress_facts(status.now, _rows(status))
    if status.restarts:
        reasons = ", ".join(
            reason if count == status.restarts else f"{reason} {count:,}" for reason, count in status.reasons.items()
        )
        yield "restarts", f"{status.restarts:,}: {reasons}"
    if len(status.shards) == 1 and (pod := status.shards[0].pod) is not None:
        node = f" on node {status.shards[0].node}" if status.shards[0].node else ""
        yield "pod", f"{pod['metadata']['name']}{node}"
    if len(status.run.jobs) > 1:
        yield "retry of", ", ".join(job.name for job in status.run.jobs[1:])


def _rows(status: JobRunStatus) -> str:
    now = status.now
    rows = rows_line(replace(now, active=now.active or None))
    match status.rows_known_of:
        case "all":
            return rows
        case "some":
            return f"at least {rows}: shards between two pods are not counted"
        case "saved":
            return f"at least {rows}: as counted before its pods were stopped; what they saved after that counts too"
        case "none":
            return "not known before a pod reports them: what earlier ones have finished is saved"


def _table(status: JobRunStatus) -> list[str]:
    """All shards, or of many those with problems, and a sentence for each that is not at work."""
    shown = _most_urgent(status.shards)
    rows = ((one.shard, one.now, (f"{one.restarts:,}" if one.restarts else "", one.node, one.verdict)) for one in shown)
    lines = ["", *shards_table(rows, (status.now, (f"{status.restarts:,}", "", "")), ("restarts", "node", "state"))]
    hidden = len(status.shards) - len(shown)
    if hidden:
        lines.append(f"{hidden:,} more shards are not shown; --output json has all")
    said = [
        f"shard {one.shard}: {one.sentence}"
        for one in status.shards
        if one.verdict in {"failed", "restarting", "pending"}
    ]
    said = first_lines(said, _SENTENCES_SHOWN)
    wrapped = [line for text in said for line in textwrap.wrap(text, _LINE_CHARS, subsequent_indent="  ")]
    return [*lines, *([""] if wrapped else []), *wrapped]


def _most_urgent(shards: Sequence[PodShardStatus]) -> list[PodShardStatus]:
    """All shards; of many the failed, the restarted, the slowest and those with the most errors."""
    if len(shards) <= _ALL_SHOWN:
        return list(shards)

    def urgency(one: PodShardStatus) -> tuple[int, int, float, int]:
        trouble = ("failed", "restarting").index(one.verdict) if one.verdict in {"failed", "restarting"} else 2
        at_work = one.verdict in AT_WORK
        return trouble, -one.restarts, -(one.now.eta_seconds or 0.0) if at_work else 0.0, -one.now.errors

    chosen = sorted(shards, key=urgency)[:_SHOWN]
    return sorted(chosen, key=lambda one: one.shard)


def _remedies(status: JobRunStatus) -> Iterator[str]:
    if status.state in {"pending", "failed", "failing"} or status.counts.get("failed"):
        yield f"{status.flags.command('why', status.view.run)} says more"
    errors = status.now.errors
    if errors and status.state == "complete":
        yield f"{pluralize(errors, 'error row')}: {status.flags.command('collect', status.view.run)} puts them into a file of their own"


def sentence_of(status: JobRunStatus) -> str:  # noqa: C901, PLR0911 - one case for each state
    """The sentence; it begins with the state."""
    resume = f"{status.flags.command('resume', status.view.run)} goes on where it was"
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
    failed_shard = next(
        (one for one in status.shards if one.verdict in {"failed", "restarting"} and one.pod is not None), None
    )
    failed = status.view.failing or {}
    if failed_shard is None or failed.get("reason") == "DeadlineExceeded":
        return reason_text(failed) or "no reason is given"
    return failed_shard.why if len(status.shards) == 1 else f"shard {failed_shard.shard}: {failed_shard.why}"


def _since_suspended(status: JobRunStatus) -> str:
    return _for((condition(status.view.job, "Suspended") or {}).get("lastTransitionTime"), status.clock)


def _for(time: str | None, clock: float) -> str:
    seconds = age(time, clock)
    return "" if seconds is None else f" for {rough_duration(seconds)}"
