"""The row that the report shows in full, and where its prompt comes from.

A run stores prompts only where results.includePrompt asks for it. What it did not store is looked up in the dataset when a person asks
for the report by `specbatch report`, never by the run itself: its report is published with the results.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from specbatch.results.identity import Identity
from specbatch.results.report.facts import RunFacts

FindPrompt = Callable[[Identity | None, int, str], tuple[Any, str]]
"""From a run and a row's index and id to (its prompt, where that was found), or (None, why it cannot be found)."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The prompt of the row shown in full, None where it is not known, and a sentence that says why."""

    prompt: Any
    note: str


def find_sample(run: RunFacts, find_prompt: FindPrompt | None) -> Sample:
    """The prompt of `run.first`: as stored, or as `find_prompt` gives it."""
    row = run.first
    if row is None or row.prompt is not None:
        return Sample(row.prompt if row else None, "Its prompt is in the results: results.includePrompt is set.")
    why = "Its prompt is not stored: results.includePrompt is not set"
    if find_prompt is None:
        return Sample(None, f"{why}. specbatch report DIR looks it up in the dataset.")
    prompt, said = find_prompt(run.identity, row.index, row.id)
    return Sample(prompt, f"{why}; {said}.")
