"""A run's status as text for people, and as plain data for machines."""

from __future__ import annotations

import textwrap
from collections import Counter
from dataclasses import asdict
from typing import Any

import msgspec

from specbatch.formatting import (
    first_lines,
    format_duration,
    format_shares,
    pluralize,
    rough_duration,
    wrap_fact,
)
from specbatch.results.cost import cost_text
from specbatch.results.protocol import progress_json
from specbatch.results.status.progress_text import progress_bar, progress_facts, publish_text, shards_table
from specbatch.results.status.shard_status import ShardStatus
from specbatch.results.status.status import RunStatus
from specbatch.results.status.verdict import AT_WORK

_LINE_CHARS = 80
_ATTEMPTS_SHOWN = 5
_SENTENCES_SHOWN = 12


def render_status(run: RunStatus) -> str:
    """Plain lines that fit 80 columns: one shard in full; several as a table, with a sentence for each that needs one."""
    lines = [f"{run.name}  {run.where}"]
    lines += _one(run) if len(run.shards) == 1 else _several(run)
    if run.complete and not run.success and any(one.totals.results for one in run.shards):
        lines.append("every shard is complete, but _SUCCESS is missing: the run ended before its last step")
    return "\n".join(line.rstrip() for line in lines)


def status_json(run: RunStatus) -> dict[str, Any]:
    """The same as plain data; keys may be added, none changes."""
    return {
        "name": run.name,
        "where": run.where,
        "success": run.success,
        "complete": run.complete,
        **progress_json(run.now),
        "speedup": None if run.speedup is None else asdict(run.speedup),
        "shards": [
            {
                "shard": one.shard,
                "verdict": one.verdict,
                "sentence": one.sentence,
                "alive": one.alive,
                "age_seconds": one.age_seconds,
                **progress_json(one.now),
                "attempts": [
                    {
                        "number": attempt.number,
                        "outcome": attempt.outcome,
                        "reason": attempt.reason,
                        "started_at": attempt.started_at,
                        "updated_at": attempt.updated_at,
                        "results": attempt.summary.results,
                        "errors": attempt.summary.errors,
                        "process": msgspec.to_builtins(attempt.process),
                    }
                    for attempt in one.attempts
                ],
            }
            for one in run.shards
        ],
    }


def _one(run: RunStatus) -> list[str]:
    shard = run.shards[0]
    now = shard.now
    lines = [*textwrap.wrap(f"{shard.sentence}{_when(shard)}", _LINE_CHARS), ""]
    lines += progress_bar(now, left=shard.verdict in AT_WORK)
    speedup = run.speedup
    known = speedup is None or speedup.times is not None or shard.verdict not in AT_WORK  # it may yet be
    facts = progress_facts(now, speedup=speedup if known else None)
    if cost := cost_text(run.summary):
        facts.append(("cost", cost))
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
    return "" if age is None or "no progress" in shard.sentence else f" (updated {rough_duration(age)} ago)"


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
    now = run.now
    # A shard that nothing is known of has no line of its own: a thousand pods may still be waiting for a machine.
    rows = ((one.shard, one.now, (_age(one), one.verdict)) for one in run.shards if one.verdict != "waiting")
    counts = Counter(one.verdict for one in run.shards)
    lines = [
        f"{len(run.shards):,} shards: {', '.join(f'{count:,} {verdict}' for verdict, count in counts.most_common())}",
        "",
    ]
    lines += shards_table(rows, (now, ("", "")), ("age", "state"))
    shares = format_shares(now.phase_seconds)
    facts = [("speed", run.speedup), ("cost", cost_text(run.summary)), ("time", shares)]
    known = [line for label, fact in facts if fact for line in wrap_fact(label, str(fact))]
    lines += ["", *known] if known else []
    said = [
        f"shard {one.shard}: {one.sentence}"
        for one in run.shards
        if one.verdict not in {"complete", "waiting"} and one.sentence != "running"
    ]
    said = first_lines(said, _SENTENCES_SHOWN)
    said += [
        f"shard {one.shard} published: {_published(one)}" for one in run.shards if one.publish and one.publish.problem
    ][:_SENTENCES_SHOWN]
    return [*lines, *([""] if said else []), *said]


def _age(shard: ShardStatus) -> str:
    return "" if shard.age_seconds is None else rough_duration(shard.age_seconds)
