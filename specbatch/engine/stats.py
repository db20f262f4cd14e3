"""What the engine counts while it runs; any thread may read it at any time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Literal

from specbatch.engine.rounds import RoundOutput
from specbatch.merging import Merge, first, largest, merge

Phase = Literal["prefill", "draft", "verify", "accept", "host", "idle"]
PHASES: tuple[Phase, ...] = ("prefill", "draft", "verify", "accept", "host", "idle")


@dataclass(slots=True)
class EngineStats:
    """Counters over the life of one engine. Times in seconds, counts in tokens unless named otherwise.

    Invariant: `emitted`, what rows kept, is at most `accepted + row_rounds`, what rounds committed before a stop cut it.
    """

    rounds: int = 0
    row_rounds: int = 0  # rounds summed over the rows in each
    drafted: int = 0
    accepted: int = 0
    grammar_drafted: int = 0  # of the drafted: the only token that a row's grammar allowed there
    grammar_accepted: int = 0
    emitted: int = 0
    prompt_tokens: int = 0
    prefill_tokens_saved: int = 0  # of what rows began with: computed once for several
    cascade_rounds: int = 0  # in which rows read what they begin with alike together
    finished: int = 0
    failed: int = 0
    active: int = 0  # rows in the batch now
    max_sequences: int = 0  # rows at once, as allowed now (halved when memory runs out)
    micro_batches: Annotated[int, Merge(at_once=largest)] = 1  # groups of rows in flight, as most rounds had it
    rounds_by_micro_batches: dict[int, int] = field(default_factory=dict)  # groups in flight -> rounds
    drafted_by_position: list[int] = field(default_factory=list)  # [j]: rows that drafted at position j
    accepted_by_position: list[int] = field(default_factory=list)  # [j]: rows that accepted position j
    # (round, num_speculative_tokens from then on); of several engines the first one's
    k_changes: Annotated[list[tuple[int, int]], Merge(at_once=first)] = field(default_factory=list)
    seconds: dict[Phase, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    warmup_seconds: Annotated[float, Merge(at_once=largest)] = 0.0
    catch_up_seconds: float = 0.0  # part of prefill: the drafter's, for what it had not seen
    # "cuda:0" -> seconds; where models are spread over several devices, of a sample of the rounds: see device_busy
    device_busy_seconds: dict[str, float] = field(default_factory=dict)
    device_sampled_seconds: dict[str, float] = field(default_factory=dict)
    plain_rounds: float = 0.0  # rounds that the kept tokens would have taken at k = 0, the batch as it was
    plain_seconds: float = 0.0  # and how long those: see target_only_seconds

    @classmethod
    def merged(cls, parts: Sequence[EngineStats]) -> EngineStats:
        """The counters of several engines that decode at once, by the rules of the fields."""
        return merge(parts, at_once=True) if parts else cls()

    def restart(self) -> None:
        """Counts from nothing again."""
        self.__init__(max_sequences=self.max_sequences, micro_batches=self.micro_batches)  # type: ignore[misc]  # the fields' defaults, said once

    @property
    def chosen(self) -> int:
        """Tokens kept that no grammar had forced: what plain rounds are counted by, since any engine may draft the others for nothing."""
        return self.emitted - self.grammar_accepted

    @property
    def target_only_seconds(self) -> float | None:
        """What the target alone would have taken for the tokens kept so far: an estimate from this run's plain rounds.

        A round that kept e tokens of n rows stands for e / n rounds at k = 0. Where it was one, it counts as it was measured; else at
        the controller's price of a plain round at that batch at that moment: k = auto corrects its warm-up table by every plain round
        of the run and by the drift of all rounds; a fixed k, which has no plain rounds, by how much slower its own rounds are
        than at warm-up. Prefill of the target and idle time are the run's own, and a plain round has the host time of any
        round. What it cannot know: rows that would have met in other batches. None before the first round that has a price.
        """
        if not self.plain_rounds:
            return None
        host = self.seconds["host"] * self.plain_rounds / self.rounds
        return self.seconds["prefill"] - self.catch_up_seconds + self.seconds["idle"] + self.plain_seconds + host

    @property
    def target_only_slowdown(self) -> float | None:
        """target_only_seconds over the seconds of all phases; None where nothing was drafted, or nothing is known."""
        alone, spent = self.target_only_seconds, sum(self.seconds.values())
        drafted = self.drafted > self.grammar_drafted  # by a drafter: what grammars force, any engine could
        return alone / spent if drafted and alone and spent else None

    @property
    def device_busy(self) -> dict[str, float]:
        """The share of the time between rounds' ends that each device was at work in them; empty where there is one device."""
        return {
            device: min(1.0, self.device_busy_seconds[device] / seconds)
            for device, seconds in self.device_sampled_seconds.items()
        }

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

    def count_warmup(self, seconds: float, groups: int) -> None:
        """Adds a warm-up, after which so many groups of rows are in flight."""
        self.warmup_seconds += seconds
        self.micro_batches = groups

    def count_round(self, k: int, groups: int, output: RoundOutput) -> None:
        """Adds what one round did.

        Args:
            k: as chosen.
            groups: of rows in flight.
            output: of the rows that were still there.
        """
        drafted, accepted, accepted_at = output.drafted, output.accepted, output.accepted_at(k)
        if output.forced is not None:
            self.grammar_drafted += output.grammar_drafted
            self.grammar_accepted += sum(output.forced_at(k)[1])
        if self.num_speculative_tokens != k or not self.k_changes:
            self.k_changes.append((self.rounds, k))
        counts = self.rounds_by_micro_batches
        counts[groups] = counts.get(groups, 0) + 1
        self.micro_batches = max(counts, key=lambda groups: counts[groups])
        self.rounds += 1
        self.row_rounds += len(accepted)
        self.cascade_rounds += output.cascade
        self.count_drafts(k, drafted, accepted, accepted_at)

    def count_drafts(self, k: int, drafted: Sequence[int], accepted: Sequence[int], accepted_at: Sequence[int]) -> None:
        """Adds drafts alone, of one round by row or of one row by round; for the arguments see count_round."""
        self.drafted += sum(drafted)
        self.accepted += sum(accepted)
        missing = k - len(self.drafted_by_position)
        self.drafted_by_position += [0] * missing
        self.accepted_by_position += [0] * missing
        for j in range(k):
            self.drafted_by_position[j] += sum(d > j for d in drafted)
            self.accepted_by_position[j] += accepted_at[j]

    def count_seconds(self, output: RoundOutput) -> None:
        """Adds what a round took on the device, phase by phase."""
        self.catch_up_seconds += output.catch_up_seconds
        self.seconds["prefill"] += output.prefill_seconds
        self.seconds["draft"] += output.draft_seconds
        self.seconds["verify"] += output.verify_seconds
        self.seconds["accept"] += output.accept_seconds
        for device, seconds in output.busy_seconds.items():
            self.device_busy_seconds[device] = self.device_busy_seconds.get(device, 0.0) + seconds
            self.device_sampled_seconds[device] = self.device_sampled_seconds.get(device, 0.0) + output.busy_of

    def count_plain(self, kept: int, rows: int, seconds: float | None) -> None:
        """Adds the plain rounds that a round's tokens stand for.

        Args:
            kept: tokens that the rows of the round kept, without forced ones; below 0 where an end cut these off.
            rows: in the batch.
            seconds: of a plain round at that batch; None where that is not known.
        """
        if seconds is not None:
            self.plain_rounds += max(kept, 0) / rows
            self.plain_seconds += seconds * max(kept, 0) / rows

    @contextmanager
    def timed(self, phase: Phase) -> Iterator[None]:
        """Adds the block's wall time to a phase."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] += time.perf_counter() - start


class HostClock:
    """Counts the host's share of the time.

    Args:
        stats: that it is added to.
    """

    def __init__(self, stats: EngineStats) -> None:
        self._stats = stats
        self.start()

    def start(self) -> None:
        """What follows counts."""
        self._looked, self._idle = time.perf_counter(), self._stats.seconds["idle"]

    def count(self, device_seconds: float) -> None:
        """What the devices did not need of the time since the last look, and the caller did not idle away, is the host's."""
        looked, idle = self._looked, self._idle
        self.start()
        spent = self._looked - looked - device_seconds - (self._idle - idle)
        self._stats.seconds["host"] += max(0.0, spent)
