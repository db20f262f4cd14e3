"""The models of a spec that come from the hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from specbatch.api.job import SpecBatchJob
from specbatch.plan.shapes.model_dir import is_hub_id


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model of the hub, and what is wanted of it.

    Args:
        name: the repository, such as Qwen/Qwen3-8B.
        revision: a commit, tag or branch; None for main.
        code: also its Python files, for trustRemoteCode.
        include: glob patterns of further files.
    """

    name: str
    revision: str | None = None
    code: bool = False
    include: Sequence[str] = ()

    def __str__(self) -> str:
        return f"{self.name}@{self.revision}" if self.revision else self.name


def hub_models(job: SpecBatchJob) -> dict[str, HubModel]:
    """By role: target, drafter. Without those of the package, and without folders and files that are given as paths."""
    given = {"target": job.spec.target, "drafter": job.spec.drafter}
    return {
        role: HubModel(one.model, one.revision, code=one.trust_remote_code)
        for role, one in given.items()
        if one is not None and one.model is not None and is_hub_id(one.model)
    }
