"""What no single field can say: rules between fields, applied together and after the fields' own checks.

A rule names the fields it reads. Where one of them is wrong already, the rule keeps silent: one mistake, one problem.
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


def rule(*reads: str) -> Callable[[Check], Rule]:
    """Makes a Rule of a check; `reads` are paths under `spec.`, such as placement.gpus."""
    return lambda check: Rule(tuple(("spec", *parse_path(read)) for read in reads), check)
