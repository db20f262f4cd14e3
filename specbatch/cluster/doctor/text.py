"""What doctor found as text for people, and as plain data for machines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from specbatch.cluster.diagnose.finding import Finding
from specbatch.cluster.diagnose.text import wrapped
from specbatch.cluster.doctor.examine import failed

_OUTCOMES = {"ok": "ok", "warning": "warning", "error": "failed", "unchecked": "not checked"}  # as scripts know them
_MARK = 13


def render_findings(findings: Sequence[Finding]) -> str:
    """A line for each, in 100 columns, its remedy in one line below: a command in it is to be pasted whole."""
    lines: list[str] = []
    for finding in findings:
        lines.append(
            wrapped(f"{_OUTCOMES[finding.severity]:<{_MARK}}", f"{finding.subject}: {finding.sentence}", _MARK)
        )
        if finding.remedy:
            remedy = f"({finding.remedy})" if finding.severity == "ok" else f"remedy: {finding.remedy}"
            lines.append(" " * _MARK + remedy)
    counts = Counter(_OUTCOMES[finding.severity] for finding in findings)
    said = [f"{counts[outcome]} {outcome}" for outcome in _OUTCOMES.values() if counts[outcome]]
    return "\n".join([*lines, "", ", ".join(said)])


def findings_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """Keys may be added, none changes."""
    return {
        "ok": not failed(findings),
        "checks": [
            {"check": one.subject, "outcome": _OUTCOMES[one.severity], "message": one.sentence, "remedy": one.remedy}
            for one in findings
        ],
    }
