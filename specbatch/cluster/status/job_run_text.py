"""The status of a run on the cluster as text and as JSON: like that of a folder (results.status), with its pods."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from msgspec.structs import replace

from specbatch.cluster.status.job_run_sentence import sentence_of
from specbatch.cluster.status.job_run_status import JobRunStatus
from specbatch.cluster.status.pod_shard_status import AT_WORK, PodShardStatus, Verdict
from specbatch.formatting import first_lines, format_bar, format_duration, format_table, pluralize, wrap_fact
from specbatch.results.protocol import progress_json
from specbatch.results.status.progress_text import progress_cells, progress_lines, rows_line

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
    now = status.now
    left = f"  {format_duration(now.eta_seconds)} left" if now.eta_seconds and not status.over else ""
    lines += ["", *([f"             {format_bar(now.rows / now.total_rows)}{left}"] if now.total_rows else [])]
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
    now = status.now
    if len(status.shards) > 1:
        counts = ", ".join(f"{status.counts[name]:,} {name}" for name in _ORDER if status.counts.get(name))
        yield "shards", f"{len(status.shards):,}: {counts}"
    yield "rows", _rows(status)
    if now.completion_tokens:
        yield from progress_lines(now)
    elif now.waiting:
        yield "waiting", now.waiting
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
    match status.told:
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
    rows: list[Sequence[str]] = [
        ("shard", "rows", "errors", "tokens/s", "accepted", "k", "left", "restarts", "node", "state")
    ]
    rows += [_row(one) for one in shown]
    rows.append(("all", *progress_cells(status.now), f"{status.restarts:,}", "", ""))
    lines = ["", *format_table(rows, left=[-1])]
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


def _row(one: PodShardStatus) -> tuple[str, ...]:
    restarts = f"{one.restarts:,}" if one.restarts else ""
    return (f"{one.shard}", *progress_cells(one.now), restarts, one.node, one.verdict)


def _remedies(status: JobRunStatus) -> Iterator[str]:
    if status.state in {"pending", "failed", "failing"} or status.counts.get("failed"):
        yield f"specbatch why {status.view.command_args} says more"
    errors = status.now.errors
    if errors and status.state == "complete":
        yield f"{pluralize(errors, 'error row')}: specbatch collect {status.view.command_args} puts them into a file of their own"
