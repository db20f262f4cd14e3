"""What to run of a spec: the placement that `auto` takes, or the target alone where a drafter is not worth its memory; and how to say so with `--set`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from specbatch.api.job import Spec
from specbatch.formatting import pluralize
from specbatch.plan.advice.problems import ways_to_fit
from specbatch.plan.candidates import Candidate, choose, evaluate, with_layers_moved
from specbatch.plan.ceiling import predict_all
from specbatch.plan.memory import largest
from specbatch.plan.plan_request import PlanRequest
from specbatch.plan.types import Recommendation

# A drafter must promise this much more than the target alone, which has its memory for more rows: of its ceiling a round with drafts reaches
# less than one without (one H100, 128 rows: 0.54 of 21,100 tokens/s, and 0.67 of 17,400).
_WORTH_A_DRAFTER = 1.1
# A placement that the spec names stays, unless another promises this much more.
_WORTH_A_CHANGE = 1.05


@dataclass(frozen=True, slots=True)
class Choices:
    """What there is to choose among.

    own: what spec and environment ask for
    paired: all placements, as the spec's `auto` would have them
    auto: that of them which `auto` takes: a run knows data sheets alone
    alone: the target alone at its best; None where the spec has no drafter model
    """

    own: Candidate
    paired: Sequence[Candidate]
    auto: Candidate
    alone: Candidate | None

    def rated(self, request_of: Callable[[PlanRequest], PlanRequest]) -> Choices:
        """The same with the ceilings of other requests."""

        def rated(one: Candidate) -> Candidate:
            return one.rated(request_of(one.request))

        return Choices(
            rated(self.own), [rated(one) for one in self.paired], rated(self.auto), self.alone and rated(self.alone)
        )

    @property
    def best(self) -> Candidate:
        """The one to take; it does not fit where none does."""
        paired, alone = self.best_paired, self.alone
        return alone if alone is not None and alone.fits and not (paired.fits and _pays(paired, alone)) else paired

    @property
    def best_paired(self) -> Candidate:
        """The one to take of those that the spec's models have: what `auto` takes, if the spec's own promises clearly less."""
        best = self.auto
        return self.own if self.own.fits and _rate(self.own) * _WORTH_A_CHANGE >= _rate(best) else best


def recommend(choices: Choices, spec: Spec, variables: Sequence[str]) -> Recommendation:
    """One of the choices, with what changes the spec to it.

    Args:
        choices: all of them.
        spec: what is to be changed.
        variables: placement variables of the environment, "NAME=value", which override the spec.
    """
    best = choices.best
    if not best.fits and best.request.min_rows > 1:
        return _with_fewer_rows(choices, spec, variables)
    if not best.fits:
        sentence, changes = ways_to_fit(choices.own)
        return Recommendation(None, changes, reason=f"{sentence}.")
    is_own = best is choices.own
    return Recommendation(
        placement=best.describe(),
        changes=() if is_own else changes_to(best, spec),
        unset=() if is_own else tuple(one.partition("=")[0] for one in variables),
        tokens_per_second=_rate(best),
        reason=_reason(choices),
        advice=tuple(_advice(choices, spec)),
        meaning=_meaning(best),
    )


def _with_fewer_rows(choices: Choices, spec: Spec, variables: Sequence[str]) -> Recommendation:
    """What is best with as many rows as fit, where those that the spec asks for do not."""

    def relaxed(one: Candidate) -> Candidate:
        return with_layers_moved(evaluate(replace(one.request, min_rows=1), one.layout))

    paired = [relaxed(one) for one in choices.paired]
    fewer = Choices(relaxed(choices.own), paired, choose(paired), choices.alone and relaxed(choices.alone))
    found = recommend(fewer, spec, variables)
    if found.placement is None:
        return found
    reason = f"{choices.own.rows} rows at once do not fit, {fewer.best.rows} would; {found.reason}"
    return replace(found, changes=(*found.changes, f"batching.maxSequences={fewer.best.rows}"), reason=reason)


def _pays(paired: Candidate, alone: Candidate) -> bool:
    """Whether the placement with the drafter is the one to take; where that is unknown k = auto measures it."""
    if paired.ceiling.num_speculative_tokens == 0 and not _unknown(paired):
        return _rate(paired) > _rate(alone)  # by its GPUs, not by drafts
    return _unknown(paired) or _rate(paired) >= _WORTH_A_DRAFTER * _rate(alone)


def _unknown(candidate: Candidate) -> bool:
    """Whether no formula tells how fast it is: a CPU's data sheet says little."""
    return "cpu" in candidate.request.gpus and not candidate.request.slowdown


def changes_to(best: Candidate, spec: Spec) -> tuple[str, ...]:
    """What `--set` takes to make the spec's placement the best one: `auto`, where the spec names another."""
    placement, changes = spec.placement, []
    if best.request.target_alone:
        changes.append("drafter=null")
        if spec.decoding.num_speculative_tokens != "auto":
            changes.append("decoding.numSpeculativeTokens=auto")
    if placement.strategy not in {"auto", best.layout.strategy} or placement.ratio:
        changes.append("placement.strategy=auto")
    if placement.ratio:
        changes.append("placement.ratio=null")
    if placement.drafter_replicas != "auto":
        changes.append("placement.drafterReplicas=auto")
    if placement.replicas not in {"auto", len(best.replicas)}:
        changes.append("placement.replicas=auto")
    return tuple(changes)


def _as_set(changes: Sequence[str]) -> str:
    return " ".join(f"--set {change}" for change in changes)


def _meaning(best: Candidate) -> str:
    """What the placement puts where."""
    (target, drafter), device = (
        best.layout.ratio,
        "the CPU" if "cpu" in best.request.gpus else "each GPU" if len(best.replicas) > 1 else "one GPU",
    )
    spread = "the target on one GPU" if target == 1 else f"the target's layers over {target} GPUs"
    if best.request.drafter is None:
        return f"the whole target on {device}" if target == 1 else spread
    if not drafter:
        return f"target and drafter together on {device}"
    where = "on the next" if drafter == 1 else f"over the next {drafter}"
    if best.layout.drafters > 1:
        where = f"{'whole ' if best.layout.drafters == drafter else ''}{best.layout.drafters} times on the next {drafter}, for groups of rows in turn"
    return f"{spread}, the drafter {where}"


def _reason(choices: Choices) -> str:
    """In a sentence or two, with its numbers."""
    best, own, paired = choices.best, choices.own, choices.best_paired
    said = f"{_at_most(best)} tokens/s are predicted"
    if best is not paired:
        return f"{said}; {_why_alone(best, paired)}."
    if best is not own and not own.fits:
        return f"{said}, with {best.rows} rows at once; {own.describe()}, which the spec asks for, does not fit."
    if best is not own:
        times = _rate(best) / _rate(own)
        return f"{said}, {times:.1f} times the {_rate(own):,.0f} of {own.describe()}, which the spec asks for: {_why_faster(best)}."
    others = [one for one in choices.paired if one.layout != best.layout and one.fits]
    second = max(others, key=_rate, default=None)
    drafting = f", {_gain(best)}" if best.request.speculation.max_k else ""
    return f"{said}{drafting}{f'; next is {second.describe()} with {_rate(second):,.0f}' if second else ''}."


def _why_alone(alone: Candidate, paired: Candidate) -> str:
    if not paired.fits:
        return "with the drafter no placement fits as asked"
    if alone.rows > paired.rows:
        why = f"its weights and cache leave room for {pluralize(paired.rows, 'row')} at once in place of {alone.rows}"
    else:
        why = f"with {alone.rows} rows at once that is too little gain for what drafting costs beside"
    said, times = f"{_rate(paired):,.0f} with the drafter: {why}", _rate(paired) / _rate(alone)
    if times <= 1:
        return said
    shown = int(times * 100) / 100  # not 1.1 of what is less
    return f"{said}. A drafter must promise {_WORTH_A_DRAFTER:g} times the speed to be recommended, and this is {shown:.2f}"


def _why_faster(best: Candidate) -> str:
    if best.layout.strategy == "same":
        return "every GPU decodes rows of its own and waits for no other, where in a split each group of rows reads the weights anew"
    return "its GPUs wait less for each other"


def _gain(best: Candidate) -> str:
    ceiling = best.ceiling
    if ceiling.tokens_per_second <= ceiling.target_only:
        return f"without drafts: with {best.rows} rows at once k = 0 is best"
    times = ceiling.tokens_per_second / ceiling.target_only
    return f"{times:.2f} times what it gives without drafts, at k = {ceiling.num_speculative_tokens}"


def _advice(choices: Choices, spec: Spec) -> Iterator[str]:
    """What else decides, in sentences."""
    best, paired, alone = choices.best, choices.best_paired, choices.alone
    if alone is not None and best is alone and paired.fits:
        few = _rows_that_draft(paired, alone)
        if few > 1 and _rate_of(paired, 1) > _WORTH_A_DRAFTER * _rate_of(
            alone, 1
        ):  # of experts a lone row's drafts read more
            changes = () if paired is choices.own else changes_to(paired, spec)
            how = f" ({_as_set(changes)})" if changes else ""
            yield (
                f"With fewer than about {few:,} rows in the whole dataset keep the drafter{how}: it is predicted to be"
                f" {_rate_of(paired, 1) / _rate_of(alone, 1):.1f} times as fast with one row, {_WORTH_A_DRAFTER:g} with {few:,}."
            )
    elif alone is not None and alone.fits and best.request.speculation.max_k:
        yield f"The target alone ({_as_set(changes_to(alone, spec))}): {_at_most(alone)}, {alone.rows} rows at once."
    if _unknown(best) and best.request.speculation.max_k:
        yield "Whether drafts pay on this CPU only a run tells: k = auto measures it, and falls back to 0."


def _rows_that_draft(paired: Candidate, alone: Candidate) -> int:
    """The largest dataset, in rows, of which the drafter is worth its memory; two digits of it; 0 where a row alone is too much."""
    most = alone.rows * len(alone.replicas)
    found = largest(lambda rows: _rate_of(paired, rows) >= _WORTH_A_DRAFTER * _rate_of(alone, rows), most)
    digits = len(str(found)) - 2
    return found if digits <= 0 else found - found % int(10**digits)


def _rate_of(candidate: Candidate, rows: int) -> float:
    """Tokens a second at most, with so many rows in all."""
    replicas = min(rows, len(candidate.replicas))
    each = min(-(-rows // replicas), candidate.rows)
    return predict_all(candidate.request, candidate.replicas[:replicas], each).tokens_per_second


def _at_most(candidate: Candidate) -> str:
    return f"{'about' if candidate.request.slowdown else 'at most'} {_rate(candidate):,.0f}"


def _rate(candidate: Candidate) -> float:
    return candidate.ceiling.tokens_per_second
