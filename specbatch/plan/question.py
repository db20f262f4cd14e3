"""What a plan answers, and the answer for one layout: the rows that fit and the ceiling they give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from specbatch.plan.ceiling import Assumptions, predict
from specbatch.plan.memory import MOST_ROWS_ON_CPU, MOST_ROWS_ON_GPU, most_rows
from specbatch.plan.shape import ModelShape
from specbatch.plan.strategy import Layout
from specbatch.plan.types import Alternative, Ceiling, GpuShape


@dataclass(frozen=True, slots=True)
class Question:
    """What a plan answers: everything but the layout."""

    target: ModelShape
    drafter: ModelShape | None  # None: no drafter, or one without weights
    gpus: Mapping[str, GpuShape]
    max_length: int
    max_k: int
    fixed_k: int | None
    rows: int | None  # None: as many as fit
    acceptance_rate: float
    mean_length: int

    @property
    def row_cap(self) -> int:
        """The most rows that `auto` takes."""
        return MOST_ROWS_ON_CPU if next(iter(self.gpus.values())).is_cpu else MOST_ROWS_ON_GPU


@dataclass(frozen=True, slots=True)
class Answer:
    """One layout, with the rows that fit and its ceiling."""

    layout: Layout
    with_drafter: bool
    rows: int
    fits: bool
    ceiling: Ceiling

    def as_alternative(self, *, chosen: bool = False) -> Alternative:
        """The same for people."""
        return Alternative(
            strategy=self.layout.strategy,
            target_gpus=self.layout.target_gpus,
            drafter_gpus=self.layout.drafter_gpus,
            replicas=len(self.layout.pairs),
            max_sequences=self.rows,
            fits=self.fits,
            ceiling=self.ceiling if self.fits else None,
            chosen=chosen,
            with_drafter=self.with_drafter,
        )


def answer(question: Question, layout: Layout, *, with_drafter: bool = True) -> Answer:
    """Rows and ceiling of a layout; one that does not fit is answered for one row, or for the rows asked for."""
    drafter = question.drafter if with_drafter else None
    replicas = layout.replicas(question.target, drafter)
    max_k = question.max_k if with_drafter else 0
    # Equal GPUs fill alike, so one replica speaks for all.
    sample = replicas[:1] if len(set(question.gpus.values())) == 1 else replicas
    fitting = most_rows(
        sample, question.gpus, max_length=question.max_length, max_k=max_k, cap=question.rows or question.row_cap
    )
    rows = question.rows or max(1, fitting)
    assumed = Assumptions(
        rows=rows,
        mean_length=question.mean_length,
        acceptance_rate=question.acceptance_rate,
        fixed_k=question.fixed_k if with_drafter else 0,
        max_k=max_k,
    )
    ceiling = predict(replicas[0], question.gpus, assumed, replicas=len(replicas))
    return Answer(layout, with_drafter, rows, fits=fitting >= rows, ceiling=ceiling)
