"""What a check is, and how all of them are made: a refusal ends one check, and never the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from specbatch.api.job import SpecBatchJob
from specbatch.errors import ClusterError

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster

Outcome = Literal["ok", "warning", "failed", "not checked"]


@dataclass(frozen=True, slots=True)
class Result:
    """What one look has shown.

    Args:
        check: what was looked at, in a word or two.
        outcome: how it stands.
        message: what was found.
        remedy: what to do about it.
    """

    check: str
    outcome: Outcome
    message: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Visit:
    """Where is looked.

    Args:
        cluster: and its namespace.
        job: the spec that is to run there; None for a look in general.
    """

    cluster: Cluster
    job: SpecBatchJob | None = None


Check = Callable[[Visit], Iterator[Result]]


def look(visit: Visit, checks: Sequence[tuple[str, Check]]) -> list[Result]:
    """The results of all checks; of one that is refused, that."""
    found: list[Result] = []
    for name, check in checks:
        try:
            found.extend(check(visit))
        except ClusterError as error:
            if error.status == 403:
                found.append(Result(name, "not checked", "not permitted to look"))
            else:
                found.append(Result(name, "failed", error.message, error.remedy or ""))
    return found


def failed(results: Sequence[Result]) -> bool:
    """Whether anything keeps runs from working."""
    return any(result.outcome == "failed" for result in results)
