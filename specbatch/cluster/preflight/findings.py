"""What the checks before a submit find: everything at once, each with its remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from specbatch.api.job import SpecBatchJob
from specbatch.cluster.client.kinds import Object
from specbatch.errors import ClusterError, Problem

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster

Level = Literal["error", "warning", "unchecked"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found: an error stops a submit, a warning does not; `unchecked` could not be looked at."""

    level: Level
    problem: Problem

    def __str__(self) -> str:
        return str(self.problem)


@dataclass(frozen=True, slots=True)
class Case:
    """What is checked.

    Args:
        cluster: where it would run.
        job: the spec.
        pod: the spec of its pods, with everything that job.podTemplate adds.
    """

    cluster: Cluster
    job: SpecBatchJob
    pod: Object

    @property
    def namespace(self) -> str:
        """As messages name it."""
        return f"namespace {self.cluster.namespace}"

    @property
    def at_once(self) -> int:
        """Pods at the same time."""
        section = self.job.spec.job
        return min(section.parallelism or section.completions, section.completions)


Check = Callable[[Case], Iterator[Finding]]


class RefusedError(ClusterError):
    """The checks found what would keep a Job from running; `problems` holds all of it."""

    def __init__(self, problems: Sequence[Problem], *, where: str) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        super().__init__(f"{count} problem{'' if count == 1 else 's'} in the cluster", where=where, reason="Refused")

    def __str__(self) -> str:
        return "\n".join([f"{self.where}: {self.message}", *(str(problem) for problem in self.problems)])


def error(subject: str, message: str, remedy: str = "") -> Finding:
    """What keeps the Job from running."""
    return Finding("error", Problem(subject, message, remedy))


def warning(subject: str, message: str, remedy: str = "") -> Finding:
    """What may keep it from running, or make it slow."""
    return Finding("warning", Problem(subject, message, remedy))


def unchecked(subject: str) -> Finding:
    """What may not be read with these rights."""
    return Finding("unchecked", Problem(subject, "not permitted to look"))


def run_checks(case: Case, checks: Iterable[tuple[str, Check]]) -> list[Finding]:
    """What all checks find; of one that is not permitted to look, that."""
    found: list[Finding] = []
    for subject, check in checks:
        try:
            found.extend(check(case))
        except ClusterError as problem:
            if problem.status != 403:
                raise
            found.append(unchecked(subject))
    return found


def stop_at_errors(found: Iterable[Finding], *, where: str) -> None:
    """Does nothing where there is no error.

    Raises:
        RefusedError: with all of them.
    """
    problems = [finding.problem for finding in found if finding.level == "error"]
    if problems:
        raise RefusedError(problems, where=where)
