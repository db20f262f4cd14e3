"""What runs the models for the scheduler: the seam behind which rounds are computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from specbatch.engine.config import EngineConfig
from specbatch.engine.general.drafter import Drafter
from specbatch.engine.general.model import CausalLM
from specbatch.engine.round_costs import RoundCosts
from specbatch.engine.rounds import InFlightRound
from specbatch.engine.sequence import SequenceState


class ModelRunner(Protocol):
    """Target and drafter on their devices, with KV for so many sequences.

    A sequence has a slot from prefill to evict. When memory runs out, the engine makes a runner of half the slots; sequences then
    begin anew from the tokens that they have.

    slots: sequences at once
    depth: rounds that may be in flight while the host launches the next one; 0: a round is complete when launch returns
    steady: the same round takes the same time, and a round may be of some sequences while the others stand still
    prefill_chunk: tokens in one prefill forward
    warm: warm_up is done
    """

    slots: int
    depth: int
    steady: bool
    prefill_chunk: int
    warm: bool

    def warm_up(self, say: Callable[[str], None], *, measure: bool) -> RoundCosts | None:
        """Makes ready for sequences: compiles, captures, measures. Leaves no trace in slots and KV.

        Args:
            say: told what takes a while.
            measure: whether the costs of rounds are needed.
        """
        ...

    def max_drafts(self, rows: int) -> int:
        """The largest k of a round of so many sequences."""
        ...

    # -- KV --------------------------------------------------------------------------------------------------------------

    @property
    def room(self) -> int:
        """Pages that sequences may take that join, one left for each that runs."""
        ...

    def pages_to_join(self, sequence: SequenceState) -> int:
        """Pages that a joining sequence needs at once."""
        ...

    def reserve(self, sequences: Sequence[SequenceState], k: int) -> bool:
        """Gives sequences the target's KV that a round of k drafts may write; False, and none gets any, where there is not enough."""
        ...

    def reserve_drafter(self, sequences: Sequence[SequenceState], k: int) -> bool:
        """As reserve, of the drafter's KV."""
        ...

    def prefill(self, sequences: Sequence[SequenceState]) -> None:
        """Gives sequences slots, and fills the target's KV for all but their last tokens."""
        ...

    def evict(self, sequence: SequenceState, *, poisoned: bool = False) -> None:
        """Takes a slot and its KV back.

        Args:
            sequence: that has ended, or will be prefilled anew. Rounds in flight for it may still run.
            poisoned: its KV may hold NaN.
        """
        ...

    # -- the drafter -----------------------------------------------------------------------------------------------------

    def lags(self, sequences: Sequence[SequenceState]) -> list[int]:
        """Tokens of each sequence that the drafter must take in before it drafts, as far as the host knows."""
        ...

    def catch_up(self, sequences: Sequence[SequenceState]) -> bool:
        """The drafter takes in what it has not seen of the sequences; False, and nothing is done, where a round in flight must land first."""
        ...

    # -- rounds ----------------------------------------------------------------------------------------------------------

    def launch(self, sequences: Sequence[SequenceState], k: int) -> InFlightRound:
        """Starts a round: drafts k tokens a sequence, verifies them, moves each on by what is accepted and one token more.

        Args:
            sequences: with slots and KV reserved, the drafter caught up if k > 0.
            k: up to max_drafts.
        """
        ...

    def commit(self, sequences: Sequence[SequenceState], k: int) -> None:
        """The sequences hold the tokens of a round of k drafts: the drafter forgets what was rejected."""
        ...

    def discard_timings(self) -> None:
        """Prefills so far are of sequences that are gone: no round tells of them."""
        ...


RunnerKind = Callable[[CausalLM, Drafter | None, EngineConfig, int], ModelRunner]
"""Makes a runner of (target, drafter, config, slots).

Raises OutOfMemoryError or a RuntimeError of torch where the KV does not fit.
"""
