"""The large numbers at the top of the report: rows, speed, acceptance, the certificate."""

from __future__ import annotations

from dataclasses import dataclass

from specbatch.formatting import format_amount, format_duration, format_percent, pluralize
from specbatch.results.cost import NO_GPU_HOURS
from specbatch.results.report.facts import RunFacts
from specbatch.results.speedup import Speedup

_ABSENT = "—"


@dataclass(frozen=True, slots=True)
class Tile:
    """One of the large numbers; `kind` is its CSS class."""

    label: str
    value: str
    note: str
    kind: str = ""

    @classmethod
    def absent(cls, label: str, why: str) -> Tile:
        """A number that is not known."""
        return cls(label, _ABSENT, why, "absent")


def tiles_of(run: RunFacts) -> list[Tile]:
    """What was measured, and in dashes what was not."""
    totals = run.totals
    tiles = [Tile("rows", f"{totals.results:,}", pluralize(totals.errors, "error"))]
    if totals.share_correct is not None:
        tiles.append(Tile("right answers", f"{totals.share_correct:.1%}", f"{totals.correct:,} of {totals.scored:,}"))
    return [*tiles, *_speed(run), *_speculation(run), _verified(run)]


def _speed(run: RunFacts) -> list[Tile]:
    summary = run.summary
    if not summary.seconds:
        return [Tile.absent("tokens/s", "nothing was decoded")]
    tiles = [Tile("tokens/s", f"{summary.tokens_per_second:,.1f}", f"{summary.completion_tokens:,} tokens")]
    if run.speedup is not None:
        tiles.append(_against_target(run.speedup))
    ceiling = summary.predicted_tokens_per_second
    if summary.fraction_of_ceiling is not None and ceiling is not None:
        share = format_percent(summary.fraction_of_ceiling)
        tiles.append(Tile("of the predicted ceiling", share, f"of {ceiling:,.0f} tokens/s"))
    if run.cost is not None:
        tiles.append(Tile("per million tokens", format_amount(run.cost.per_million), run.cost.how))
    elif summary.price is not None:
        tiles.append(Tile.absent("per million tokens", NO_GPU_HOURS))
    if summary.prefill_tokens_saved and summary.prompt_tokens:
        share = format_percent(summary.prefill_tokens_saved / summary.prompt_tokens)
        tiles.append(
            Tile("of prompts shared", share, f"of {summary.prompt_tokens:,} tokens: read once for several rows")
        )
    before = format_duration(summary.load_seconds + summary.warmup_seconds)
    return [*tiles, Tile("time decoding", format_duration(summary.seconds), f"and {before} before it")]


def _against_target(speedup: Speedup) -> Tile:
    label, alone = "against the target alone", speedup.target_only_tokens_per_second
    if speedup.times is None or alone is None:
        return Tile.absent(label, "unknown: specbatch verify measures it")
    return Tile(label, f"{speedup.times:.2f}x", f"{speedup.source}: alone {alone:,.1f} tokens/s")


def _speculation(run: RunFacts) -> list[Tile]:
    summary = run.summary
    if not summary.drafted:
        return [Tile.absent("acceptance rate", summary.no_drafts)]
    kept = f"{summary.accepted:,} of {summary.drafted:,} drafted"
    length = f"{summary.mean_acceptance_length:.2f}"
    return [
        Tile("acceptance rate", f"{summary.acceptance_rate:.1%}", kept),
        Tile("mean acceptance length", length, "tokens per target forward"),
    ]


def _verified(run: RunFacts) -> Tile:
    found = run.verification
    if found is None:
        return Tile.absent("verified", "not yet: specbatch verify does")
    exact = f"{found.exact:,} of {found.replayed:,}"
    if found.unexplained:
        return Tile("verified", exact, f"{pluralize(found.unexplained, 'row')} unexplained", "wrong")
    ties = f"exact, {pluralize(found.ties, 'near tie')}" if found.ties else "exactly the target's own"
    return Tile("verified", exact, ties)
