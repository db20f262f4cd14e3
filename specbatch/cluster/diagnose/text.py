"""A verdict of `why`, and the findings of `doctor`, as text for people and as plain data for machines."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Any

from specbatch.cluster.diagnose.finding import Finding
from specbatch.cluster.diagnose.why import Verdict
from specbatch.cluster.jobs.job_view import format_indexes
from specbatch.cluster.jobs.timestamps import ago
from specbatch.formatting import first_lines, one_line, wrap_fact

_WIDTH = 100
_EVIDENCE_LINES = 8
_EVIDENCE_CHARS = 600
_OTHERS_SHOWN = 5
_OF_A_VERDICT = ("cause", "sentence", "remedy", "severity", "shards", "since", "evidence")
_OUTCOMES = {"ok": "ok", "warning": "warning", "error": "failed", "unchecked": "not checked"}  # as scripts know them


def render_verdict(verdict: Verdict, clock: float) -> str:
    """The sentence, the remedy, and what they rest on; 100 columns, but for the remedy: a command in it is to be pasted whole."""
    finding = verdict.finding
    evidence = [one_line(one, _EVIDENCE_CHARS) for one in finding.evidence[:_EVIDENCE_LINES]]
    also = [f"{one.cause}: {one.sentence}{_shards(' (shards {})', one, verdict)}" for one in verdict.others]
    lines = [
        ("shards: ", _shards("{}", finding, verdict)),
        ("since: ", ago(finding.since, clock)),
        ("cause: ", finding.cause),
        *([("evidence:", " ")] if evidence else []),
        *(("  - ", line) for line in evidence),
        *([("also:", " ")] if also else []),
        *(("  - ", line) for line in first_lines(also, _OTHERS_SHOWN)),
        ("not looked at (not permitted, or too many): ", ", ".join(verdict.not_looked_at)),
    ]
    first = _wrapped("", finding.sentence[:1].upper() + finding.sentence[1:])
    remedy = [f"remedy: {finding.remedy}"] if finding.remedy else []
    return "\n".join([first, *remedy, *(_wrapped(label, text) for label, text in lines if text)])


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """The same as plain data; keys may be added, none changes."""
    first, *others = [
        {name: getattr(one, name) for name in _OF_A_VERDICT} for one in (verdict.finding, *verdict.others)
    ]
    where = {"run": verdict.view.run, "job": verdict.view.name, "namespace": verdict.view.namespace}
    return {**first, "others": others, "not_looked_at": list(verdict.not_looked_at), **where}


def render_findings(findings: Sequence[Finding]) -> str:
    """A line for each, in 100 columns, its remedy in one line below: a command in it is to be pasted whole."""
    lines: list[str] = []
    for one in findings:
        lines += wrap_fact(_OUTCOMES[one.severity], f"{one.subject}: {one.sentence}", chars=_WIDTH)
        if one.remedy:
            lines.append(f"{'':<13}{f'({one.remedy})' if one.severity == 'ok' else f'remedy: {one.remedy}'}")
    counts = Counter(_OUTCOMES[one.severity] for one in findings)
    return "\n".join([*lines, "", ", ".join(f"{counts[one]} {one}" for one in _OUTCOMES.values() if counts[one])])


def findings_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """Keys may be added, none changes."""
    checks = [
        {"check": one.subject, "outcome": _OUTCOMES[one.severity], "message": one.sentence, "remedy": one.remedy}
        for one in findings
    ]
    return {"ok": all(one.severity != "error" for one in findings), "checks": checks}


def _wrapped(label: str, text: str) -> str:
    """A text behind its label, in lines of 100 columns."""
    indent = " " * min(len(label), 8)
    lines = textwrap.wrap(text, _WIDTH, initial_indent=label, subsequent_indent=indent, break_on_hyphens=False)
    return "\n".join(lines or [label])


def _shards(form: str, finding: Finding, verdict: Verdict) -> str:
    """`0,2-5 (5 of 16)`; empty where there is but one."""
    count = len(finding.shards)
    if not count or verdict.view.completions == 1:
        return ""
    return form.format(f"{format_indexes(finding.shards)} ({count:,} of {verdict.view.completions:,})")
