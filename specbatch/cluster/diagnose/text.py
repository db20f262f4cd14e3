"""A verdict as text for people, and as plain data for machines."""

from __future__ import annotations

import textwrap
from typing import Any

from specbatch.cluster.diagnose.finding import Finding, cut
from specbatch.cluster.diagnose.why import Verdict
from specbatch.cluster.jobs.job_view import format_indexes
from specbatch.cluster.jobs.timestamps import ago

_WIDTH = 100
_EVIDENCE_LINES = 8
_EVIDENCE_CHARS = 600
_OTHERS_SHOWN = 5
_MOODS = {"error": "problem", "warning": "waiting", "ok": "fine"}  # as scripts know them


def render_verdict(verdict: Verdict, clock: float) -> str:
    """The sentence, the remedy, and what they rest on; 100 columns, but for the remedy: a command in it is to be pasted whole."""
    finding, others = verdict.finding, verdict.others
    evidence = [cut(one, _EVIDENCE_CHARS) for one in finding.evidence[:_EVIDENCE_LINES]]
    also = [f"{one.cause}: {one.sentence}{_shards(' (shards {})', one, verdict)}" for one in others[:_OTHERS_SHOWN]]
    more = [f"and {len(others) - _OTHERS_SHOWN} more causes"] if len(others) > _OTHERS_SHOWN else []
    since = ago(finding.since, clock)
    lines = [
        ("shards: ", _shards("{}", finding, verdict)),
        ("since: ", since),
        ("cause: ", finding.cause),
        *([("evidence:", " ")] if evidence else []),
        *(("  - ", line) for line in evidence),
        *([("also:", " ")] if also else []),
        *(("  - ", line) for line in (*also, *more)),
        ("not looked at (not permitted, or too many): ", ", ".join(verdict.not_looked_at)),
    ]
    first = wrapped("", finding.sentence[:1].upper() + finding.sentence[1:], 0)
    remedy = [f"remedy: {finding.remedy}"] if finding.remedy else []
    return "\n".join([first, *remedy, *(wrapped(label, text, min(len(label), 8)) for label, text in lines if text)])


def wrapped(label: str, text: str, indent: int) -> str:
    """A text behind its label, in lines of 100 columns."""
    lines = textwrap.wrap(text, _WIDTH, initial_indent=label, subsequent_indent=" " * indent, break_on_hyphens=False)
    return "\n".join(lines or [label])


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """The same as plain data; keys may be added, none changes."""
    return {
        **_finding_json(verdict.finding),
        "others": [_finding_json(one) for one in verdict.others],
        "not_looked_at": list(verdict.not_looked_at),
        "run": verdict.view.run,
        "job": verdict.view.name,
        "namespace": verdict.view.namespace,
    }


def _finding_json(finding: Finding) -> dict[str, Any]:
    return {
        "cause": finding.cause,
        "sentence": finding.sentence,
        "remedy": finding.remedy,
        "mood": _MOODS[finding.severity],
        "shards": list(finding.shards),
        "since": finding.since,
        "evidence": list(finding.evidence),
    }


def _shards(form: str, finding: Finding, verdict: Verdict) -> str:
    """`0,2-5 (5 of 16)`; empty where there is but one."""
    count = len(finding.shards)
    if not count or verdict.view.completions == 1:
        return ""
    return form.format(f"{format_indexes(finding.shards)} ({count:,} of {verdict.view.completions:,})")
