"""One attempt at a shard in plain numbers, and the lines that the terminal shows at the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import zip_longest
from typing import Any

from specbatch.formatting import format_counts, format_duration, format_facts, format_shares
from specbatch.results.ended import Ended
from specbatch.results.storage.typed import as_type
from specbatch.results.totals import Totals

_K_CHANGES_KEPT = 500
_ONLY_ENGINE = "general"  # on a CPU: not worth a line


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """What one attempt did, from the engine's counters; `totals` alone covers earlier attempts too.

    Times in seconds. `seconds` is the wall time of decoding: loading and warm-up stand beside it, and `phase_seconds` says where it
    went. Ceilings are tokens per second, None where nothing was predicted or measured.
    """

    results: int = 0  # rows answered by this attempt
    errors: int = 0  # error rows written by this attempt
    skipped: int = 0  # rows that were finished when it began
    seconds: float = 0.0
    engine: str = ""  # which decoded, and why where there is something to say; empty: nothing was loaded
    load_seconds: float = 0.0
    warmup_seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    rounds: int = 0
    row_rounds: int = 0  # rounds summed over the rows in each
    drafted: int = 0
    accepted: int = 0
    drafted_by_position: Sequence[int] = ()  # [j]: rows that drafted at position j
    accepted_by_position: Sequence[int] = ()  # [j]: rows that accepted position j
    k_changes: Sequence[tuple[int, int]] = ()  # (round, num_speculative_tokens from then on)
    phase_seconds: Mapping[str, float] = field(default_factory=dict)
    max_sequences: int = 0
    predicted_tokens_per_second: float | None = None
    target_only_tokens_per_second: float | None = None  # estimated from this run's plain rounds: see EngineStats
    totals: Totals = field(default_factory=Totals)  # every row in the shard's files so far: store.totals
    ended: Ended | None = None  # store.ended; None in files of earlier versions, and of several shards
    dataset_rows: int | None = None  # of all shards; None where the dataset was not read to its end

    @property
    def tokens_per_second(self) -> float:
        """Completion tokens over the wall time of decoding."""
        return self.completion_tokens / self.seconds if self.seconds > 0 else 0.0

    @property
    def acceptance_rate(self) -> float:
        """accepted / drafted; 0 where nothing was drafted."""
        return self.accepted / self.drafted if self.drafted else 0.0

    @property
    def mean_acceptance_length(self) -> float:
        """1 + accepted / row rounds: the tokens a row gains in one target forward."""
        return 1.0 + self.accepted / self.row_rounds if self.row_rounds else 1.0

    @property
    def fraction_of_ceiling(self) -> float | None:
        """Tokens per second over the predicted ceiling."""
        return self.tokens_per_second / self.predicted_tokens_per_second if self.predicted_tokens_per_second else None

    @property
    def speedup(self) -> float | None:
        """Tokens per second over those of the target alone."""
        alone = self.target_only_tokens_per_second
        return self.tokens_per_second / alone if alone else None

    def to_json(self) -> dict[str, Any]:
        """As manifest and progress file keep it; of many changes of k, every n-th and the last."""
        changes = self.k_changes
        step = max(1, -(-len(changes) // _K_CHANGES_KEPT))
        kept = [*changes[: len(changes) - 1 : step], *changes[-1:]]
        return {**asdict(replace(self, k_changes=())), "k_changes": kept}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RunSummary:
        """From manifest or progress file."""
        read = as_type(value, cls)
        return replace(
            read,
            k_changes=tuple(read.k_changes),
            drafted_by_position=tuple(read.drafted_by_position),
            accepted_by_position=tuple(read.accepted_by_position),
        )


def combine(summaries: Iterable[RunSummary], totals: Totals, *, at_once: bool = False) -> RunSummary:
    """Several attempts at a shard as one, or with `at_once` several shards that ran beside each other.

    Counts add up. Seconds add up too, unless the parts ran at once: then the longest counts, and their ceilings add up.
    """
    parts = list(summaries)
    if not parts:
        return RunSummary(totals=totals)
    last = parts[-1]
    k_changes: list[tuple[int, int]] = []
    rounds = 0
    for part in parts:
        k_changes += [(at + rounds, k) for at, k in part.k_changes]
        rounds += part.rounds
    phases = {phase: 0.0 for part in parts for phase in part.phase_seconds}
    for part in parts:
        for phase, seconds in part.phase_seconds.items():
            phases[phase] += seconds
    span = max if at_once else sum
    return RunSummary(
        results=sum(part.results for part in parts),
        errors=sum(part.errors for part in parts),
        skipped=sum(part.skipped for part in parts) if at_once else last.skipped,
        seconds=span(part.seconds for part in parts),
        engine="; ".join(dict.fromkeys(part.engine for part in parts if part.engine)),
        load_seconds=span(part.load_seconds for part in parts),
        warmup_seconds=span(part.warmup_seconds for part in parts),
        prompt_tokens=sum(part.prompt_tokens for part in parts),
        completion_tokens=sum(part.completion_tokens for part in parts),
        rounds=rounds,
        row_rounds=sum(part.row_rounds for part in parts),
        drafted=sum(part.drafted for part in parts),
        accepted=sum(part.accepted for part in parts),
        drafted_by_position=_add([part.drafted_by_position for part in parts]),
        accepted_by_position=_add([part.accepted_by_position for part in parts]),
        k_changes=parts[0].k_changes if at_once else tuple(k_changes),
        phase_seconds=phases,
        max_sequences=sum(part.max_sequences for part in parts) if at_once else last.max_sequences,
        predicted_tokens_per_second=_ceiling([part.predicted_tokens_per_second for part in parts], at_once=at_once),
        target_only_tokens_per_second=_ceiling([part.target_only_tokens_per_second for part in parts], at_once=at_once),
        totals=totals,
        ended=None if at_once else last.ended,
        dataset_rows=next((rows for part in reversed(parts) if (rows := part.dataset_rows) is not None), None),
    )


def _add(parts: Iterable[Sequence[int]]) -> tuple[int, ...]:
    return tuple(sum(counts) for counts in zip_longest(*parts, fillvalue=0))


def _ceiling(values: Sequence[float | None], *, at_once: bool) -> float | None:
    """Of shards: the sum, if each has one. Of attempts: the last that was given."""
    known = [value for value in values if value is not None]
    if at_once:
        return sum(known) if known and len(known) == len(values) else None
    return known[-1] if known else None


def render_summary(summary: RunSummary, *, results: str = "", report: str = "", name: str = "") -> str:
    """The end of a run, for people: plain lines without colour.

    Args:
        summary: the attempt that has ended.
        results: where the results are.
        report: where the report is; empty where none was written.
        name: the run's name.
    """
    lines = [("rows", _rows(summary))]
    totals = summary.totals
    if totals.share_correct is not None:
        lines.append(("right answers", f"{totals.correct:,} of {totals.scored:,} ({totals.share_correct:.1%})"))
    if summary.seconds:
        lines.append(("speed", _speed(summary)))
        lines.append(("time", f"{format_duration(summary.seconds)} decoding{_before(summary)}"))
    if summary.engine not in {"", _ONLY_ENGINE}:
        lines.append(("engine", summary.engine))
    if summary.drafted:
        lines.append(
            (
                "speculation",
                (
                    f"acceptance_rate {summary.acceptance_rate:.3f}, "
                    f"mean_acceptance_length {summary.mean_acceptance_length:.2f} tokens per target forward"
                ),
            )
        )
    if shares := format_shares(summary.phase_seconds):
        lines.append(("time went to", shares))
    if totals.errors_by_code:
        lines.append(("errors", format_counts(totals.errors_by_code)))
    lines += [(label, path) for label, path in (("results", results), ("report", report)) if path]
    head = [name] if name else []
    return "\n".join([*head, *format_facts(lines)])


def _rows(summary: RunSummary) -> str:
    text = f"{summary.results:,} done, {summary.errors:,} errors"
    return f"{text}, {summary.skipped:,} skipped (finished before)" if summary.skipped else text


def _speed(summary: RunSummary) -> str:
    parts = [f"{summary.tokens_per_second:,.1f} tokens/s ({summary.completion_tokens:,} tokens)"]
    if summary.speedup is not None:
        parts.append(f"{summary.speedup:.2f}x the target alone (estimated)")
    if summary.fraction_of_ceiling is not None:
        parts.append(f"{summary.fraction_of_ceiling:.0%} of the predicted ceiling")
    return ", ".join(parts)


def _before(summary: RunSummary) -> str:
    parts = [("loading", summary.load_seconds), ("warm-up", summary.warmup_seconds)]
    said = [f"{label} {format_duration(seconds)}" for label, seconds in parts if seconds]
    return f" (before it: {', '.join(said)})" if said else ""
