"""The results as text for people, and as plain data for machines."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Any

from specbatch.cluster.doctor.checkup import Result, failed

_WIDTH = 100
_MARK = 13


def render_results(results: Sequence[Result]) -> str:
    """A line for each, its remedy below; 100 columns."""
    lines: list[str] = []
    for result in results:
        label = f"{result.outcome:<{_MARK}}"
        lines += _wrapped(label, f"{result.check}: {result.message}")
        if result.remedy:
            lines += _wrapped(
                " " * _MARK, f"remedy: {result.remedy}" if result.outcome != "ok" else f"({result.remedy})"
            )
    counts = Counter(result.outcome for result in results)
    said = [f"{counts[outcome]} {outcome}" for outcome in ("ok", "warning", "failed", "not checked") if counts[outcome]]
    return "\n".join([*lines, "", ", ".join(said)])


def results_json(results: Sequence[Result]) -> dict[str, Any]:
    """Keys may be added, none changes."""
    return {
        "ok": not failed(results),
        "checks": [
            {"check": one.check, "outcome": one.outcome, "message": one.message, "remedy": one.remedy}
            for one in results
        ],
    }


def _wrapped(label: str, text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=label, subsequent_indent=" " * _MARK, break_on_hyphens=False)
