"""Drafting with a packed model of the target's vocabulary inside captured rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from specbatch.engine.graphs.cuda_graphs import Capture, CudaGraphRunner
from specbatch.engine.graphs.decoder import Decoder
from specbatch.engine.graphs.drafters.drafter import StepDrafter
from specbatch.engine.graphs.kv.pool import PagePool
from specbatch.engine.graphs.logits.token_choice import TokenChooser
from specbatch.engine.graphs.mode import Mode
from specbatch.engine.graphs.prefill import Prefill
from specbatch.engine.graphs.stage import RowsAt
from specbatch.engine.graphs.state import RowState
from specbatch.engine.sequence import SequenceState


class PagedDrafter(StepDrafter):
    """A packed model that drafts token by token, with KV in pages.

    Invariant: the KV of a slot is valid below position `seen`. Where a slot has caught up, every round since has drafted: the model then
    lacks no more than the token before the last, which draft_first takes in.

    Args:
        decoder: the model.
        pool: of its pages.
        prefill: of its KV.
        chooser: of tokens.
        graphs: of captured steps.
        verifying: see StepDrafter.
    """

    def __init__(
        self,
        decoder: Decoder,
        pool: PagePool,
        prefill: Prefill,
        chooser: TokenChooser,
        graphs: CudaGraphRunner,
        verifying: RowState | None = None,
    ) -> None:
        super().__init__(chooser, graphs, verifying)
        self.decoder = decoder
        self.pool = pool
        self.prefill = prefill
        self.pools, self.prefills = (pool,), (prefill,)
        self._seen = [0] * (self.state.slots + 1)
        self._caught_up = [False] * (self.state.slots + 1)
        self._shared = [0] * (self.state.slots + 1)

    # -- the host's side -------------------------------------------------------------------------------------------------

    def join(self, slot: int, shared: int) -> None:
        """A sequence takes a slot. What the target shares of it is, as far as lags go, for another to take in."""
        self._shared[slot] = shared

    def lags(self, sequences: Sequence[SequenceState]) -> list[int]:
        """Tokens of each sequence to be taken in before it drafts, as far as the host knows."""
        caught_up, seen, shared = self._caught_up, self._seen, self._shared
        return [0 if caught_up[s.slot] else s.length - max(seen[s.slot], shared[s.slot]) for s in sequences]

    def lagging(self, sequences: Sequence[SequenceState]) -> list[SequenceState]:
        """The sequences that it must catch up with."""
        caught_up = self._caught_up
        return [s for s in sequences if not caught_up[s.slot]]

    def catch_up(self, sequences: Sequence[SequenceState]) -> None:
        """Queues prefill forwards over what it has not seen, and no sequence before has taken in that shares its pages."""
        pool, seen = self.pool, self._seen
        pool.upload()
        if self.verifying is not None:
            self.state.join([s.slot for s in sequences], sequences)
        stretches = []
        for s in sequences:
            stretches.append((s.slot, max(seen[s.slot], pool.filled(s.slot)), s.length))
            pool.fill(s.slot)
            seen[s.slot], self._caught_up[s.slot] = s.length, True
        self.prefill.fill(stretches)

    def skip(self, sequences: Sequence[SequenceState]) -> None:
        """A round without drafts is launched: what it commits must be caught up with."""
        for s in sequences:
            self._caught_up[s.slot] = False

    def commit(self, sequences: Sequence[SequenceState]) -> None:
        """Accepted drafts are the sequences' own tokens: their KV is valid."""
        seen = self._seen
        for s in sequences:
            seen[s.slot] = max(seen[s.slot], s.length - 1)

    def leave(self, slot: int) -> None:
        """Another replica drafts for the slot from now on. What is known of it stays where there are pages for all rows."""
        if self.pool.ample:
            self._caught_up[slot] = False
        else:
            self.evict(slot)

    def evict(self, slot: int) -> None:
        """Takes a slot and its pages back."""
        self.pool.evict(slot)
        self._seen[slot], self._shared[slot], self._caught_up[slot] = 0, 0, False

    # -- the device's side -----------------------------------------------------------------------------------------------

    def _forward(self, capture: Capture, rows: int, *, anew: bool, cascade: bool = False) -> tuple[Tensor, RowsAt]:
        state, decoder, chooser = self.state, self.decoder, self.chooser
        # The first draft comes from the last two tokens: of the one before the last the drafter may lack the KV, after a full
        # acceptance, and to write what is there already costs less than to ask.
        n = 2 if anew else 1
        tokens, at = chooser.next_tokens(rows, n, back=n - 1, drafted=None if anew else state.drafted)
        hidden, at = decoder.forward(capture, tokens, replace(at, cascade=cascade))
        return decoder.logits(capture, hidden.view(rows, n, -1)[:, -1].contiguous(), at)

    def _settle(self, logits: Tensor, at: RowsAt, mode: Mode, *, anew: bool) -> None:
        state = self.state
        last = at.token_positions.view(len(at.slots), -1)[:, -1:]
        drafts = self._choose(logits, at.slots, last + 1, mode, anew=anew)
        self.ops.keep_drafts(state.history, at.slots, at.token_positions, drafts, state.drafted, anew=anew)
