"""A candidate: a layout with its device maps, the rows that fit and the ceiling they give."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from specbatch.errors import ModelError
from specbatch.plan.ceiling import predict_all
from specbatch.plan.device_map import place_replicas
from specbatch.plan.layouts import Layout
from specbatch.plan.memory import MemoryFit, memory_fit
from specbatch.plan.plan_request import PlanRequest
from specbatch.plan.predicted import Ceiling
from specbatch.plan.types import Alternative, ReplicaPlan, Speculation

_MOST_STAGES = 16  # of a target whose layers are dealt out by memory, too
# Ratios whose ceilings differ by less are alike.
_ALIKE = 0.97
# A layout that is less simple must promise this much more before `auto` takes it: transfers and idle stages cost in practice.
_WORTH_A_SPLIT = 1.25


@dataclass(frozen=True, slots=True)
class Candidate:
    """One layout, with the rows that fit and its ceiling."""

    request: PlanRequest
    layout: Layout
    replicas: tuple[ReplicaPlan, ...]  # with the KV of one token
    memory: MemoryFit
    rows: int
    fits: bool
    ceiling: Ceiling
    all_draft: bool = True  # whether the drafter's GPUs have room for all rows; else the ceiling is one without drafts

    def rated(self, request: PlanRequest) -> Candidate:
        """The same placement and rows, with the ceiling of a request with other times, acceptance or lengths."""
        asked = request if self.all_draft else _plain(request)
        ceiling = predict_all(asked, self.replicas, self.rows)
        return replace(self, request=request, ceiling=ceiling)

    def as_alternative(self, *, chosen: bool = False) -> Alternative:
        """The same for people."""
        target_gpus, drafter_gpus = self.layout.ratio
        return Alternative(
            strategy=self.layout.strategy,
            target_gpus=target_gpus,
            drafter_gpus=drafter_gpus,
            replicas=len(self.replicas),
            max_sequences=self.rows,
            fits=self.fits,
            ceiling=self.ceiling if self.fits else None,
            chosen=chosen,
            with_drafter=not self.request.target_alone,
            drafters=self.layout.drafters,
        )

    def describe(self) -> str:
        """In words, see Alternative."""
        return self.as_alternative().describe()


def evaluate(request: PlanRequest, layout: Layout) -> Candidate:
    """A layout's device maps, rows and ceiling; one that does not fit is judged for one row, or for the rows asked for.

    Raises:
        ModelError: it spreads a model whose modules are not known by name, or has several drafters that cannot be.
    """
    if layout.drafters > 1:
        _check_drafters(request, layout)
    replicas = place_replicas(layout, request.target, request.drafter, gpus=request.gpus)
    memory = memory_fit(request, replicas)
    cap = request.most_rows(stages=layout.ratio[0])
    fitting = memory.most_rows(cap)
    rows = max(request.min_rows, fitting)
    ceiling = predict_all(request, replicas, rows)
    # A drafter on GPUs of its own limits the rows no more than the target, unless fewer rows with drafts are faster.
    more = memory.most_rows(cap, all_draft=False)
    if more > fitting and more >= request.min_rows:
        without = predict_all(_plain(request), replicas, more)
        if fitting < rows or without.tokens_per_second > ceiling.tokens_per_second:
            return Candidate(request, layout, replicas, memory, more, fits=True, ceiling=without, all_draft=False)
    return Candidate(request, layout, replicas, memory, rows, fits=fitting >= rows, ceiling=ceiling)


def with_layers_moved(found: Candidate) -> Candidate:
    """Where the memory of one of the target's GPUs limits the rows, it gives layers to the one with the most room, as long as that is faster."""
    request, stages = found.request, found.replicas[0].target.stages
    while (
        1 < len(stages) <= _MOST_STAGES
        and found.fits
        and request.min_rows < found.rows < request.most_rows(len(stages))
    ):
        room = [found.memory.room(stage.device) for stage in stages]
        layers = [stage.num_layers for stage in found.replicas[0].target.stages]
        layers[room.index(min(room))] -= 1
        layers[room.index(max(room))] += 1
        other = evaluate(request, replace(found.layout, layers=tuple(layers))) if min(layers) > 0 else found
        if not other.fits or other.ceiling.tokens_per_second <= found.ceiling.tokens_per_second:
            break
        found = other
    return found


def _check_drafters(request: PlanRequest, layout: Layout) -> None:
    """Raises where nothing would use more than one drafter."""
    reason = ""
    if request.drafter is None or request.drafter.eagle3 is not None:
        reason = "a head drafts from hidden states on the target's own GPU" if request.drafter else "there is no model"
    elif not request.is_paged:
        general = next((shape.why_general for shape in request.models.values() if shape.why_general), "")
        reason = f"the general engine has one group of rows for all GPUs{f' ({general})' if general else ''}"
    elif request.groups is not None and request.groups < layout.drafters:
        reason = f"each has groups of rows of its own, and placement.microBatches is {request.groups}"
    if reason:
        raise ModelError(
            f"{layout.drafters} drafters: {reason}",
            where="spec.placement.drafterReplicas",
            remedy="set it to 1 or auto, or name the drafter's GPUs with commas",
        )


def _plain(request: PlanRequest) -> PlanRequest:
    return replace(request, speculation=Speculation(0, is_adaptive=False))


def best_of_each(request: PlanRequest, families: Iterable[Sequence[Layout]]) -> list[Candidate]:
    """The best candidate of each family of layouts.

    Raises:
        ModelError: all of them spread a model whose modules are not known by name.
    """
    best: list[Candidate] = []
    refused: ModelError | None = None
    for family in families:
        candidates = []
        for layout in family:
            try:
                candidates.append(with_layers_moved(evaluate(request, layout)))
            except ModelError as error:
                refused = refused or error
        best += [_best_ratio(candidates)] if candidates else []
    if refused is not None and not best:
        raise refused
    return best


def choose(candidates: Sequence[Candidate]) -> Candidate:
    """The simplest that fits, unless a later one promises clearly more; the last resort when nothing fits."""
    fitting = [one for one in candidates if one.fits] or [candidates[-1]]
    chosen = fitting[0]
    for other in fitting[1:]:
        if other.ceiling.tokens_per_second > _WORTH_A_SPLIT * chosen.ceiling.tokens_per_second:
            chosen = other
    return chosen


def _best_ratio(candidates: Sequence[Candidate]) -> Candidate:
    """Of one family: the highest ceiling that fits; among those that are alike, the one that needs the fewest groups in flight for it."""
    fitting = [one for one in candidates if one.fits] or candidates
    most = max(one.ceiling.tokens_per_second for one in fitting)
    alike = [one for one in fitting if one.ceiling.tokens_per_second >= _ALIKE * most]
    return min(alike, key=lambda one: (one.ceiling.groups, -one.ceiling.tokens_per_second))
