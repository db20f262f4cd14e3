"""The numbers of one attempt at a shard, and how several add up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import msgspec

from specbatch.merging import Merge, constant, first, largest, last, last_known, merge, summed_if_all_known
from specbatch.results.ended import Ended
from specbatch.results.totals import Totals

_K_CHANGES_KEPT = 500
_LATEST = Merge(in_turn=last)  # as the newest attempt has it
_WALL = Merge(at_once=largest)  # seconds that pass for all at once
_CEILING = Merge(in_turn=last_known, at_once=summed_if_all_known)
_SAME_FOR_ALL = Merge(in_turn=last_known, at_once=last_known)


class Counters(msgspec.Struct, frozen=True, kw_only=True):
    """What the engines have counted since an attempt began, under the names of `engine.stats.EngineStats`.

    A field that is added here is in every log line, progress file, manifest, status and total.
    """

    prompt_tokens: int = 0
    prefill_tokens_saved: int = 0
    completion_tokens: int = 0
    rounds: int = 0
    cascade_rounds: int = 0  # in which rows read what they begin with alike together
    row_rounds: int = 0  # rounds summed over the rows in each
    drafted: int = 0
    accepted: int = 0
    grammar_drafted: int = 0  # of the drafted: the only token that a row's grammar allowed there
    grammar_accepted: int = 0
    drafted_by_position: tuple[int, ...] = ()  # [j]: rows that drafted at position j
    accepted_by_position: tuple[int, ...] = ()  # [j]: rows that accepted position j
    phase_seconds: dict[str, float] = {}
    device_busy_seconds: dict[str, float] = {}  # "cuda:0" -> at work, of the rounds that were timed device by device
    device_sampled_seconds: dict[str, float] = {}  # and what these took; both empty where a pair has one device
    warmup_seconds: Annotated[float, _WALL] = 0.0
    max_sequences: Annotated[int, _LATEST] = 0
    micro_batches: Annotated[int, Merge(in_turn=last, at_once=largest)] = 1  # groups of rows in flight

    @property
    def device_busy(self) -> Mapping[str, float]:
        """The share of the time between the ends of rounds that each device was at work in them; empty where a pair has one device."""
        sampled = {device: seconds for device, seconds in self.device_sampled_seconds.items() if seconds > 0}
        return {device: min(1.0, self.device_busy_seconds.get(device, 0.0) / sampled[device]) for device in sampled}

    @property
    def counters(self) -> Mapping[str, Any]:
        """These fields alone, of whatever record they are part."""
        return {name: getattr(self, name) for name in Counters.__struct_fields__}


def _after_each_other(values: Sequence[Sequence[tuple[int, int]]], parts: Sequence[Any]) -> tuple[tuple[int, int], ...]:
    """Changes of k, with rounds counted on over the attempts."""
    changes: list[tuple[int, int]] = []
    rounds = 0
    for part, value in zip(parts, values, strict=True):
        changes += [(at + rounds, k) for at, k in value]
        rounds += part.rounds
    return tuple(changes)


def _each_once(values: Sequence[str], _parts: Sequence[Any]) -> str:
    return "; ".join(dict.fromkeys(value for value in values if value))


class RunSummary(Counters, frozen=True, kw_only=True):
    """What one attempt did; `totals` alone covers earlier attempts too.

    Times in seconds. `seconds` is the wall time of decoding: loading and warm-up stand beside it, and `phase_seconds` says where it
    went. Ceilings are tokens per second, None where nothing was predicted or measured. `gpu_seconds` are those of every GPU that the
    placement uses, while it decoded (`seconds`), and before (loading and warm-up); 0 on a CPU, and in files of earlier versions.
    """

    results: int = 0  # rows answered by this attempt
    errors: int = 0  # error rows written by this attempt
    skipped: Annotated[int, _LATEST] = 0  # rows that were finished when it began
    seconds: Annotated[float, _WALL] = 0.0
    engine: Annotated[str, Merge(_each_once, _each_once)] = ""  # which decoded, and why; empty: nothing was loaded
    load_seconds: Annotated[float, _WALL] = 0.0
    k_changes: Annotated[tuple[tuple[int, int], ...], Merge(_after_each_other, first)] = ()  # (round, k from then on)
    predicted_tokens_per_second: Annotated[float | None, _CEILING] = None
    target_only_tokens_per_second: Annotated[float | None, _CEILING] = (
        None  # estimated from plain rounds: see EngineStats
    )
    row_latency: dict[str, int] = {}  # results.latency: bucket -> rows answered
    gpu_seconds: float = 0.0
    gpu_seconds_before: float = 0.0
    price: Annotated[float | None, _SAME_FOR_ALL] = None  # of a GPU for an hour, where the run was given one
    totals: Annotated[Totals, _LATEST] = msgspec.field(default_factory=Totals)  # of the shard's files: store.totals
    ended: Annotated[Ended | None, Merge(last, constant(None))] = None  # store.ended; None in files of earlier versions
    dataset_rows: Annotated[int | None, _SAME_FOR_ALL] = None  # of all shards; None: not read to its end

    @property
    def tokens_per_second(self) -> float:
        """Completion tokens over the wall time of decoding."""
        return self.completion_tokens / self.seconds if self.seconds > 0 else 0.0

    @property
    def acceptance_rate(self) -> float:
        """accepted / drafted; 0 where nothing was drafted."""
        return self.accepted / self.drafted if self.drafted else 0.0

    @property
    def num_speculative_tokens(self) -> int:
        """k in the end."""
        return self.k_changes[-1][1] if self.k_changes else 0

    @property
    def no_drafts(self) -> str:
        """What is said in place of acceptance where no draft was counted: some engines count none."""
        k = self.num_speculative_tokens
        return f"no drafts were counted, k {k}" if k else "nothing was drafted"

    @property
    def mean_acceptance_length(self) -> float:
        """1 + accepted / row rounds: the tokens a row gains in one target forward."""
        return 1.0 + self.accepted / self.row_rounds if self.row_rounds else 1.0

    @property
    def fraction_of_ceiling(self) -> float | None:
        """Tokens per second over the predicted ceiling."""
        return self.tokens_per_second / self.predicted_tokens_per_second if self.predicted_tokens_per_second else None


def combine(summaries: Iterable[RunSummary], totals: Totals, *, at_once: bool = False) -> RunSummary:
    """Several attempts at a shard as one, or with `at_once` several shards that ran beside each other, by the rules of the fields."""
    parts = list(summaries)
    merged = merge(parts, at_once=at_once) if parts else RunSummary()
    return msgspec.structs.replace(merged, totals=totals)


def thinned(k_changes: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Of many changes of k every n-th and the last, so that files stay small."""
    step = max(1, -(-len(k_changes) // _K_CHANGES_KEPT))
    return (*k_changes[: len(k_changes) - 1 : step], *k_changes[-1:])
