"""A run's status as text for people, and as plain data for machines."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping
from typing import Any

from specbatch.formatting import (
    format_bar,
    format_duration,
    format_shares,
    format_table,
    pluralize,
    rough_duration,
    wrap_fact,
)
from specbatch.results.status.progress_snapshot import look_lines, publish_text, rows_line
from specbatch.results.status.shard_status import AT_WORK, ShardStatus
from specbatch.results.status.status import RunStatus

_LINE_CHARS = 80
_ATTEMPTS_SHOWN = 5
_SENTENCES_SHOWN = 12


def render_status(run: RunStatus) -> str:
    """Plain lines that fit 80 columns: one shard in full; several as a table, with a sentence for each that needs one."""
    lines = [f"{run.name}  {run.where}"]
    lines += _one(run.shards[0]) if len(run.shards) == 1 else _several(run)
    if run.complete and not run.success and any(one.totals.results for one in run.shards):
        lines.append("every shard is complete, but _SUCCESS is missing: the last step has not been taken yet")
    return "\n".join(line.rstrip() for line in lines)


def status_json(run: RunStatus) -> dict[str, Any]:
    """The same as plain data; keys may be added, none changes."""
    return {
        "name": run.name,
        "where": run.where,
        "success": run.success,
        "complete": run.complete,
        "before": list(run.before),
        **_sums(run),
        "shards": [
            {
                "shard": one.shard,
                "verdict": one.verdict,
                "sentence": one.sentence,
                "alive": one.alive,
                "age_seconds": one.age_seconds,
                **one.now,
                "publish": None if one.publish is None else one.publish.to_json(),
                "attempts": [
                    {
                        "number": attempt.number,
                        "outcome": attempt.outcome,
                        "reason": attempt.reason,
                        "started_at": attempt.started_at,
                        "updated_at": attempt.updated_at,
                        "results": attempt.summary.results,
                        "errors": attempt.summary.errors,
                        "process": None if attempt.process is None else attempt.process.to_json(),
                    }
                    for attempt in one.attempts
                ],
            }
            for one in run.shards
        ],
    }


def _sums(run: RunStatus) -> dict[str, Any]:
    looks = [one.now for one in run.shards]
    counting = [one for one in run.shards if one.verdict in AT_WORK] or run.shards
    lefts = [one.now["eta_seconds"] for one in counting]
    phases: Counter[str] = Counter()
    for look in looks:
        phases.update(look["phase_seconds"])
    summaries = [one.summary for one in run.shards]
    drafted, rounds = sum(one.drafted for one in summaries), sum(one.row_rounds for one in summaries)
    accepted = sum(one.accepted for one in summaries)
    return {
        "rows": run.rows,
        "total_rows": run.total_rows,
        "total_rows_estimated": run.total_rows_estimated,
        "errors": run.errors,
        "skipped": sum(look["skipped"] for look in looks),
        "active": sum(look["active"] or 0 for look in looks),
        "tokens_per_second": sum(one.now["tokens_per_second"] for one in counting),
        "acceptance_rate": accepted / drafted if drafted else 0.0,
        "mean_acceptance_length": 1 + accepted / rounds if rounds else 1.0,
        "eta_seconds": None if None in lefts else max(lefts, default=None),
        "phase_seconds": dict(phases),
    }


def _one(shard: ShardStatus) -> list[str]:
    now = shard.now
    lines = [*textwrap.wrap(f"{shard.sentence}{_when(shard)}", _LINE_CHARS), ""]
    total, eta = now["total_rows"], now["eta_seconds"]
    if total:
        left = "" if eta is None or shard.verdict not in AT_WORK else f"  {format_duration(eta)} left"
        lines.append(f"             {format_bar(now['rows'] / total)}{left}")
    facts = [("rows", rows_line(now))]
    if now["completion_tokens"]:
        facts += look_lines(now)
    elif now.get("waiting"):
        facts.append(("waiting", now["waiting"]))
    if shard.publish is not None:
        facts.append(("published", _published(shard)))
    labels = ["attempts", *[""] * _ATTEMPTS_SHOWN]
    facts += zip(labels, _attempts(shard), strict=False)
    return lines + [line for label, text in facts for line in wrap_fact(label, text)]


def _published(shard: ShardStatus) -> str:
    """Of a process that has ended the state does not grow older."""
    last = shard.last
    assert shard.publish is not None
    assert last is not None
    at_work = shard.verdict in AT_WORK or shard.alive
    return publish_text(shard.publish, shard.clock if at_work else last.updated_at)


def _when(shard: ShardStatus) -> str:
    age = shard.age_seconds
    return "" if age is None or "no word for" in shard.sentence else f" (updated {rough_duration(age)} ago)"


def _attempts(shard: ShardStatus) -> list[str]:
    attempts = shard.attempts
    shown = [
        f"{attempt.number}: {shard.outcome_of(attempt)} after "
        f"{format_duration(max(0.0, attempt.updated_at - attempt.started_at))}, "
        f"{attempt.summary.results:,} rows, {pluralize(attempt.summary.errors, 'error')}"
        for attempt in attempts[-_ATTEMPTS_SHOWN:]
    ]
    hidden = len(attempts) - len(shown)
    return [f"{hidden:,} earlier ones", *shown] if hidden else shown


def _several(run: RunStatus) -> list[str]:
    sums = _sums(run)
    rows: list[tuple[str, ...]] = [("shard", "rows", "errors", "tokens/s", "accepted", "k", "left", "age", "state")]
    # A shard that nothing is known of has no line of its own: a thousand pods may still be waiting for a machine.
    rows += [_row(one) for one in run.shards if one.verdict != "waiting"]
    rows.append(("all", *cells(sums), "", ""))
    counts = Counter(one.verdict for one in run.shards)
    before = f" ({', '.join(map(str, run.before))} before)" if run.before else ""
    lines = [
        f"{len(run.shards):,} shards{before}: {', '.join(f'{count:,} {verdict}' for verdict, count in counts.most_common())}",
        "",
    ]
    lines += format_table(rows, left=[-1])
    if shares := format_shares(sums["phase_seconds"]):
        lines += ["", f"time went to {shares}"]
    said = [
        f"shard {one.shard}: {one.sentence}"
        for one in run.shards
        if one.verdict not in {"complete", "waiting"} and one.sentence != "running"
    ]
    if len(said) > _SENTENCES_SHOWN:
        said[_SENTENCES_SHOWN:] = [f"and {len(said) - _SENTENCES_SHOWN:,} more"]
    said += [
        f"shard {one.shard} published: {_published(one)}" for one in run.shards if one.publish and one.publish.problem
    ][:_SENTENCES_SHOWN]
    return [*lines, *([""] if said else []), *said]


def _row(one: ShardStatus) -> tuple[str, ...]:
    age = one.age_seconds
    return (f"{one.shard}", *cells(one.now), "" if age is None else rough_duration(age), one.verdict)


def cells(look: Mapping[str, Any]) -> tuple[str, ...]:
    """One look as cells of a table: rows, errors, tokens/s, accepted, k, left."""
    total, eta, speed = look["total_rows"], look["eta_seconds"], look["tokens_per_second"]
    share = f" ({look['rows'] / total:.0%})" if total else ""
    about = "" if total is None or not look.get("total_rows_estimated") else "~"
    return (
        f"{look['rows']:,}/{about}{'?' if total is None else format(total, ',')}{share}",
        f"{look['errors']:,}",
        f"{speed:,.1f}" if speed < 10_000 else f"{speed:,.0f}",
        f"{look['acceptance_rate']:.3f}",
        f"{look['num_speculative_tokens']}" if "num_speculative_tokens" in look else "",
        "" if eta is None else rough_duration(eta),
    )
