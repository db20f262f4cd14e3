"""What runs the models for the scheduler: the seam behind which rounds are computed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch

from specbatch.engine.config import EngineConfig
from specbatch.engine.memory import current_device
from specbatch.engine.rounds import InFlightRound
from specbatch.engine.sequence import SequenceState
from specbatch.engine.speculation.round_costs import RoundCosts
from specbatch.engine.timing import PrefillTimer


class ModelRunner(ABC):
    """Target and drafter on their devices, with KV for so many sequences.

    A sequence has a slot from prefill to evict. Where slots need no pages, there is always KV for what a slot may hold. When memory
    runs out, the engine makes a runner of half the slots; sequences then begin anew from the tokens that they have.

    depth: rounds of a group that may be in flight while the host launches its next one; 0: a round is complete when launch returns
    groups: of rows, that have rounds in flight at once
    drafters: that draft for groups in turn: group g has number g modulo so many
    steady: the same round takes the same time, and a round may be of some sequences while the others stand still
    prefill_chunk: tokens in one prefill forward
    warm: warm_up is done

    Args:
        config: sizes and rules.
        slots: sequences at once.
        device: where rounds begin.
    """

    depth: int
    groups = 1
    drafters = 1
    steady: bool
    prefill_chunk: int
    warm = False

    def __init__(self, config: EngineConfig, slots: int, device: torch.device) -> None:
        self.config = config
        self.slots = slots
        self.device = device
        self.timer = PrefillTimer()

    def entered(self) -> AbstractContextManager[object]:
        """Within, it may be given work; the thread's current device and streams are afterwards what they were."""
        return current_device(self.device)

    @abstractmethod
    def warm_up(self, say: Callable[[str], None], *, measure: bool) -> RoundCosts | None:
        """Makes ready for sequences: compiles, captures, measures. Leaves no trace in slots and KV.

        Args:
            say: told what takes a while.
            measure: whether the costs of rounds are needed.
        """

    @abstractmethod
    def max_drafts(self, rows: int) -> int:
        """The largest k of a round of so many sequences."""

    # -- KV --------------------------------------------------------------------------------------------------------------

    def room(self, sequences: Sequence[SequenceState], *, drafting: bool) -> int:
        """Pages that sequences may take that join, one left for each that runs.

        Args:
            sequences: that run.
            drafting: whether the drafter needs KV for all of them, too.
        """
        del sequences, drafting
        return 0

    def pages_to_join(self, sequence: SequenceState) -> int:
        """Pages that a joining sequence needs at once."""
        del sequence
        return 0

    def tokens_to_join(self, sequence: SequenceState) -> int:
        """Tokens that a joining sequence must compute, as far as that is known before others join."""
        return sequence.length

    def reserve(self, sequences: Sequence[SequenceState], k: int) -> bool:
        """Gives sequences the target's KV that a round of k drafts may write; False, and none gets any, where there is not enough."""
        del sequences, k
        return True

    def reserve_drafter(self, sequences: Sequence[SequenceState], k: int) -> bool:
        """As reserve, of the drafter's KV."""
        return self.reserve(sequences, k)

    @abstractmethod
    def prefill(self, sequences: Sequence[SequenceState]) -> int:
        """Gives sequences slots, and fills the target's KV for all but their last tokens.

        Returns:
            tokens that had to be computed for that; those of a beginning that several have alike count once, or not at all
        """

    @abstractmethod
    def evict(self, sequence: SequenceState, *, poisoned: bool = False) -> None:
        """Takes a slot and its KV back.

        Args:
            sequence: that has ended, or will be prefilled anew. Rounds in flight for it may still run.
            poisoned: its KV may hold NaN.
        """

    def synchronize(self) -> None:
        """Waits for what is queued, where memory that is given back now might be used before that is done."""
        return

    # -- the drafter -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def lags(self, sequences: Sequence[SequenceState]) -> list[int]:
        """Tokens of each sequence that the drafter must take in before it drafts, as far as the host knows."""

    @abstractmethod
    def catch_up(self, sequences: Sequence[SequenceState]) -> bool:
        """The drafter takes in what it has not seen of the sequences; False, and nothing is done, where a round in flight must land first."""

    def learn(self, finished: Sequence[SequenceState]) -> None:
        """Sequences have finished, and not failed: what a drafter may draw on for others."""
        del finished

    # -- rounds ----------------------------------------------------------------------------------------------------------

    def max_forced(self, rows: int) -> int:
        """The largest k of a round of so many sequences whose drafts are given to launch."""
        del rows
        return 0

    @abstractmethod
    def launch(
        self, sequences: Sequence[SequenceState], k: int, drafts: Sequence[Sequence[int]] | None = None
    ) -> InFlightRound:
        """Starts a round: drafts k tokens a sequence, verifies them, moves each on by what is accepted and one token more.

        Args:
            sequences: of one group, with slots and KV reserved, the drafter caught up if k > 0.
            k: up to max_drafts; up to max_forced where drafts are given.
            drafts: what is to be verified in place of the drafter's tokens, which has no part in the round: up to k of each sequence.
        """

    def regroup(self, groups: int, sequences: Sequence[SequenceState]) -> None:
        """From now on there are so many groups of rows, to which the sequences have been dealt out anew; no round is in flight."""
        del sequences
        self.groups = groups

    @abstractmethod
    def commit(self, sequences: Sequence[SequenceState], k: int) -> None:
        """The sequences hold the tokens of a round of k drafts: the drafter forgets what was rejected."""
