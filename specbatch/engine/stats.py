"""What the engine counts while it runs; any thread may read it at any time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

Phase = Literal["prefill", "draft", "verify", "accept", "host", "idle"]
PHASES: tuple[Phase, ...] = ("prefill", "draft", "verify", "accept", "host", "idle")


@dataclass(slots=True)
class EngineStats:
    """Counters over the life of one engine. Times in seconds, counts in tokens unless named otherwise.

    Invariant: `committed` = sum over rounds and rows of (accepted + 1), before truncation at a stop;
    `emitted` <= `committed` is what rows kept.
    """

    rounds: int = 0
    row_rounds: int = 0  # rounds summed over the rows in each
    drafted: int = 0
    accepted: int = 0
    committed: int = 0
    emitted: int = 0
    prompt_tokens: int = 0
    finished: int = 0
    failed: int = 0
    active: int = 0  # rows in the batch now
    max_sequences: int = 0  # rows at once, as allowed now (halved when memory runs out)
    drafted_by_position: list[int] = field(default_factory=list)  # [j]: rows that drafted at position j
    accepted_by_position: list[int] = field(default_factory=list)  # [j]: rows that accepted position j
    k_changes: list[tuple[int, int]] = field(default_factory=list)  # (round, num_speculative_tokens from then on)
    seconds: dict[Phase, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    warmup_seconds: float = 0.0

    @property
    def acceptance_rate(self) -> float:
        """accepted / drafted."""
        return self.accepted / self.drafted if self.drafted else 0.0

    @property
    def mean_acceptance_length(self) -> float:
        """1 + accepted / row rounds: the tokens a row gains in one target forward."""
        return 1.0 + self.accepted / self.row_rounds if self.row_rounds else 1.0

    @property
    def num_speculative_tokens(self) -> int:
        """k as of now."""
        return self.k_changes[-1][1] if self.k_changes else 0

    def count_round(self, k: int, drafted: Sequence[int], accepted: Sequence[int], stood: Sequence[int]) -> None:
        """Adds one round.

        Args:
            k: as chosen.
            drafted: per row.
            accepted: per row.
            stood: [j] rows that accepted position j.
        """
        if self.num_speculative_tokens != k or not self.k_changes:
            self.k_changes.append((self.rounds, k))
        self.rounds += 1
        self.row_rounds += len(accepted)
        self.drafted += sum(drafted)
        self.accepted += sum(accepted)
        self.committed += sum(accepted) + len(accepted)
        missing = k - len(self.drafted_by_position)
        self.drafted_by_position += [0] * missing
        self.accepted_by_position += [0] * missing
        for j in range(k):
            self.drafted_by_position[j] += sum(d > j for d in drafted)
            self.accepted_by_position[j] += stood[j]

    @contextmanager
    def timed(self, phase: Phase) -> Iterator[None]:
        """Adds the block's wall time to a phase."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] += time.perf_counter() - start
