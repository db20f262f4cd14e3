"""How many times as fast as the target alone a run is: one figure, in the same words in summary, status, report, compare and verify."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from specbatch.formatting import pluralize
from specbatch.results.protocol import Progress
from specbatch.results.summary import RunSummary
from specbatch.results.verification import Verification


@dataclass(frozen=True, slots=True, kw_only=True)
class Speedup:
    """Tokens per second over those of the target alone.

    Args:
        how: measured by `specbatch verify`, which replays rows with the target alone; estimated by the run itself, from what its
            rounds without drafts cost (EngineStats.target_only_seconds); unknown where it drafted and neither is there.
        times: the figure; None where it is unknown.
        target_only_tokens_per_second: what it is a multiple of.
        rows: that were replayed.
    """

    how: Literal["measured", "estimated", "unknown"]
    times: float | None = None
    target_only_tokens_per_second: float | None = None
    rows: int = 0

    @property
    def source(self) -> str:
        """How it is known: measured on 12 rows, estimated, unknown."""
        return f"measured on {pluralize(self.rows, 'row')}" if self.how == "measured" else self.how

    def __str__(self) -> str:
        if self.times is None:
            return "against the target alone: unknown, specbatch verify measures it"
        return f"{self.times:.2f}x the target alone ({self.source})"


def estimated_speedup(done: RunSummary | Progress) -> Speedup | None:
    """As the run itself knows it; None where nothing was drafted: it was the target alone."""
    alone = done.target_only_tokens_per_second
    if not done.drafted or not done.seconds:
        return None
    if not alone:
        return Speedup(how="unknown")
    times = done.completion_tokens / done.seconds / alone
    return Speedup(how="estimated", times=times, target_only_tokens_per_second=alone)


def speedup_of(run: RunSummary, attempts: Iterable[RunSummary], verification: Verification | None) -> Speedup | None:
    """Of a run: as measured, else as estimated; None where nothing was drafted and nothing measured.

    Args:
        run: all attempts at all shards as one; what shards estimate adds up as their speeds do.
        attempts: each of them. `specbatch verify` measures on one machine: it is compared with the mean speed of a shard.
        verification: its certificate.
    """
    alone = verification.target_only_tokens_per_second if verification else None
    parts = list(attempts)
    seconds = sum(part.seconds for part in parts)
    if verification is None or not alone or not seconds:
        return estimated_speedup(run)
    return Speedup(
        how="measured",
        times=sum(part.completion_tokens for part in parts) / seconds / alone,
        target_only_tokens_per_second=alone,
        rows=verification.target_only_rows,
    )
