"""A verdict as text for people, and as plain data for machines."""

from __future__ import annotations

import textwrap
from typing import Any

from specbatch.cluster.diagnose.finding import Finding, Verdict
from specbatch.cluster.diagnose.whole_job import shards_text
from specbatch.cluster.jobs.timestamps import ago

_WIDTH = 100
_EVIDENCE_LINES = 8
_EVIDENCE_CHARS = 600
_OTHERS_SHOWN = 5


def render_verdict(verdict: Verdict, clock: float) -> str:
    """The sentence, the remedy, and what they rest on; 100 columns."""
    finding = verdict.finding
    lines = [*_wrapped(finding.sentence[:1].upper() + finding.sentence[1:]), *_labelled("remedy: ", finding.remedy)]
    shards = shards_text(finding.shards, verdict.completions)
    facts = [
        ("shards: ", shards),
        ("since: ", ago(finding.since, clock)),
        ("cause: ", finding.cause),
    ]
    lines += [line for label, value in facts if value for line in _labelled(label, value)]
    if finding.evidence:
        shown = finding.evidence[:_EVIDENCE_LINES]
        lines += ["evidence:", *(line for one in shown for line in _labelled("  - ", _shortened(one)))]
    if verdict.others:
        lines.append("also:")
        lines += [line for one in verdict.others[:_OTHERS_SHOWN] for line in _labelled("  - ", _other(one, verdict))]
        if len(verdict.others) > _OTHERS_SHOWN:
            lines.append(f"  - and {len(verdict.others) - _OTHERS_SHOWN} more causes")
    if verdict.not_looked_at:
        lines += _labelled("not looked at (not permitted, or too many): ", ", ".join(verdict.not_looked_at))
    return "\n".join(lines)


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """The same as plain data; keys may be added, none changes."""
    return {
        **_finding_json(verdict.finding),
        "others": [_finding_json(one) for one in verdict.others],
        "not_looked_at": list(verdict.not_looked_at),
        "run": verdict.run,
        "job": verdict.job,
        "namespace": verdict.namespace,
    }


def _finding_json(finding: Finding) -> dict[str, Any]:
    return {
        "cause": finding.cause,
        "sentence": finding.sentence,
        "remedy": finding.remedy,
        "mood": finding.mood,
        "shards": list(finding.shards),
        "since": finding.since,
        "evidence": list(finding.evidence),
    }


def _other(finding: Finding, verdict: Verdict) -> str:
    shards = shards_text(finding.shards, verdict.completions)
    return f"{finding.cause}: {finding.sentence}{f' (shards {shards})' if shards else ''}"


def _shortened(text: str) -> str:
    return text if len(text) <= _EVIDENCE_CHARS else f"{text[: _EVIDENCE_CHARS - 1]}…"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, break_on_hyphens=False) or [""]


def _labelled(label: str, text: str) -> list[str]:
    indent = " " * min(len(label), 8)
    return textwrap.wrap(text, _WIDTH, initial_indent=label, subsequent_indent=indent, break_on_hyphens=False) or [
        label
    ]
