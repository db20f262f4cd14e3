"""Several drafters of one kind, each on a device and a lane of its own: group g of the rows is drafted for by number g modulo their count."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from specbatch.engine.graphs.cuda_graphs import Capture, Span
from specbatch.engine.graphs.drafters.drafter import GraphDrafter
from specbatch.engine.graphs.drafters.paged import PagedDrafter
from specbatch.engine.graphs.kv.pool import PagePool
from specbatch.engine.graphs.mode import Mode
from specbatch.engine.sequence import SequenceState


class ReplicatedDrafter(GraphDrafter):
    """See GraphDrafter. All that is asked about at once is of one group; a row that changes replicas is caught up with like one that joins.

    Args:
        replicas: two or more.
    """

    def __init__(self, replicas: Sequence[PagedDrafter]) -> None:
        self.replicas = tuple(replicas)
        self.pools = tuple(replica.pool for replica in replicas)
        self.prefills = tuple(replica.prefill for replica in replicas)
        # Where the target verifies, one memory is for all: rounds are verified one after the other.
        for replica in replicas[1:]:
            replica.draft_probs = replicas[0].draft_probs

    def replica_of(self, group: int) -> PagedDrafter:
        """That drafts for a group."""
        return self.replicas[group % len(self.replicas)]

    # -- the host's side -------------------------------------------------------------------------------------------------

    def join(self, slot: int, shared: int) -> None:
        """A sequence takes a slot."""
        for replica in self.replicas:
            replica.join(slot, shared)

    def lags(self, sequences: Sequence[SequenceState]) -> list[int]:
        """Tokens of each sequence that its replica must take in."""
        return self.replica_of(sequences[0].group).lags(sequences)

    def lagging(self, sequences: Sequence[SequenceState]) -> list[SequenceState]:
        """The sequences that their replica must catch up with."""
        return self.replica_of(sequences[0].group).lagging(sequences)

    def catch_up(self, sequences: Sequence[SequenceState]) -> None:
        """Queues what takes in the sequences' tokens."""
        self.replica_of(sequences[0].group).catch_up(sequences)

    def skip(self, sequences: Sequence[SequenceState]) -> None:
        """A round without drafts is launched."""
        self.replica_of(sequences[0].group).skip(sequences)

    def commit(self, sequences: Sequence[SequenceState]) -> None:
        """The host has the tokens of a round with drafts."""
        self.replica_of(sequences[0].group).commit(sequences)

    def evict(self, slot: int) -> None:
        """Takes a slot and its KV back."""
        for replica in self.replicas:
            replica.evict(slot)

    def regrouped(self, sequences: Sequence[SequenceState]) -> None:
        """For each sequence, the replicas that do not draft for it any more would miss its rounds."""
        for sequence in sequences:
            own = self.replica_of(sequence.group)
            for replica in self.replicas:
                if replica is not own:
                    replica.leave(sequence.slot)

    def pools_of(self, group: int) -> tuple[PagePool, ...]:
        """Of the group's replica."""
        return self.replica_of(group).pools

    # -- the device's side -----------------------------------------------------------------------------------------------

    def propose(self, rows: int, k: int, mode: Mode, spans: list[Span] | None = None) -> None:
        """Queues the drafting on the lanes of the group's replica."""
        replica = self.replica_of(self.group)
        replica.grammars = self.grammars
        replica.propose(rows, k, mode, spans)

    def trace(self, capture: Capture, rows: int, k: int, mode: Mode) -> None:
        """As the replica of the group that is next."""
        self.replica_of(self.group).trace(capture, rows, k, mode)

    def probs(self, drafts: Tensor, target_probs: Tensor) -> Tensor:
        """As any replica has left them."""
        return self.replicas[0].probs(drafts, target_probs)
