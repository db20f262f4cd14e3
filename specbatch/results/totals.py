"""Totals over a shard's rows, counted from the rows themselves: exact across kills and restarts."""

from __future__ import annotations

import msgspec

from specbatch.merging import merge
from specbatch.results.rows import ErrorRow, ResultRow


class Totals(msgspec.Struct, kw_only=True):
    """Counts over rows. `scored` rows had a reference answer, `correct` of them matched it."""

    results: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    rounds: int = 0
    drafted: int = 0
    accepted: int = 0
    scored: int = 0
    correct: int = 0
    finish_reasons: dict[str, int] = {}
    errors_by_code: dict[str, int] = {}

    @property
    def rows(self) -> int:
        """Rows that ended, either way."""
        return self.results + self.errors

    @property
    def share_correct(self) -> float | None:
        """correct / scored; None where no row had a reference answer."""
        return self.correct / self.scored if self.scored else None

    def add_result(self, row: ResultRow) -> None:
        """Counts a row of the results."""
        self.results += 1
        self.prompt_tokens += row.usage.prompt_tokens
        self.completion_tokens += row.usage.completion_tokens
        if row.speculation is not None:
            self.rounds += row.speculation.rounds
            self.drafted += row.speculation.drafted
            self.accepted += row.speculation.accepted
        if row.correct is not None:
            self.scored += 1
            self.correct += row.correct
        self.finish_reasons[row.finish_reason] = self.finish_reasons.get(row.finish_reason, 0) + 1

    def add_error(self, row: ErrorRow) -> None:
        """Counts a row of the errors file."""
        self.errors += 1
        self.errors_by_code[row.code.value] = self.errors_by_code.get(row.code.value, 0) + 1

    def __add__(self, other: Totals) -> Totals:
        return merge([self, other], at_once=True)
