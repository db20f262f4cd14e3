"""What no single field can say: rules between fields, applied together and after the fields' own checks.

A rule names the fields it reads. Where one of them is wrong already, the rule is skipped: one mistake, one problem.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from specbatch.api.job import SpecBatchJob
from specbatch.api.paths import Path, overlaps, parse_path
from specbatch.errors import Problem

Check = Callable[[SpecBatchJob], Iterator[Problem]]


@dataclass(frozen=True, slots=True)
class Rule:
    """A check and the paths that it reads."""

    reads: tuple[Path, ...]
    check: Check

    def applies(self, doubtful: Iterable[Path]) -> bool:
        """Whether everything that the rule reads can be trusted."""
        return not any(overlaps(read, path) for read in self.reads for path in doubtful)


RULES: list[Rule] = []
"""Every rule, in the order in which problems are reported: that of the imports in `specbatch.api.rules`."""


def rule(*reads: str) -> Callable[[Check], Check]:
    """Registers a check as a rule; `reads` are paths under `spec.`, such as placement.gpus."""

    def register(check: Check) -> Check:
        RULES.append(Rule(tuple(("spec", *parse_path(read)) for read in reads), check))
        return check

    return register
