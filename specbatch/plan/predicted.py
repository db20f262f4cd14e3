"""What a plan predicts: its ceiling, and what each GPU does in a cycle of rounds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The most that the memory bandwidth and arithmetic of all replicas together allow, in tokens a second.

    Over several GPUs a replica has as many groups of rows (micro-batches) in flight as pay: while the target verifies one, the drafter
    drafts for another, and a target in stages has one in each.
    """

    tokens_per_second: float
    target_only: float  # the same placement with k = 0
    num_speculative_tokens: int  # the best k, or the spec's own
    acceptance_rate: float  # assumed, the same for every draft position
    mean_length: int  # assumed tokens in the cache of a row
    groups: int = 1  # of rows in flight, of each replica
    one_group: float | None = None  # tokens_per_second with one in flight; None where the spec has another number


@dataclass(frozen=True, slots=True)
class Span:
    """What a device does for one group of rows, in seconds from the begin of the cycle."""

    group: int
    drafting: bool  # else verifying
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Lane:
    """What one device does in a cycle."""

    device: str
    spans: tuple[Span, ...]
    busy: float  # share of the cycle


@dataclass(frozen=True, slots=True)
class Timeline:
    """A cycle: every group of rows goes through one round in it."""

    seconds: float
    groups: int  # of rows, in flight
    k: int
    tokens_per_second: float  # of one replica
    lanes: tuple[Lane, ...]
