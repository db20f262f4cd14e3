"""What proposes tokens inside captured rounds: the seam behind which a packed model or a lookup drafts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from specbatch.engine.counter_rng import Purpose
from specbatch.engine.graphs.cuda_graphs import Capture, CudaGraphRunner, Span
from specbatch.engine.graphs.decoder import Decoder
from specbatch.engine.graphs.lanes import Lane
from specbatch.engine.graphs.pool import PagePool
from specbatch.engine.graphs.prefill import Prefill
from specbatch.engine.graphs.reference import TorchOps
from specbatch.engine.graphs.sizes import MAX_TOKENS
from specbatch.engine.graphs.state import Mode, RowState
from specbatch.engine.graphs.token_choice import TokenChooser
from specbatch.engine.sequence import SequenceState


class GraphDrafter:
    """What every drafter is to pair and runner; this one proposes nothing and keeps nothing: the target alone.

    pools, prefills: of its KV, where it has any; it then lags behind what was committed without it
    """

    pools: tuple[PagePool, ...] = ()
    prefills: tuple[Prefill, ...] = ()

    # -- the host's side -------------------------------------------------------------------------------------------------

    def lags(self, sequences: Sequence[SequenceState]) -> list[int]:
        """Tokens of each sequence to be taken in before it drafts, as far as the host knows."""
        return [0] * len(sequences)

    def lagging(self, sequences: Sequence[SequenceState]) -> list[SequenceState]:
        """The sequences that it must catch up with."""
        del sequences
        return []

    def catch_up(self, sequences: Sequence[SequenceState]) -> None:
        """Queues what takes in the sequences' tokens. No round is in flight for any of them."""

    def skip(self, sequences: Sequence[SequenceState]) -> None:
        """A round without drafts is launched: what it commits must be caught up with."""

    def commit(self, sequences: Sequence[SequenceState]) -> None:
        """The host has the tokens of a round with drafts: those that were accepted need no catching up."""

    def evict(self, slot: int) -> None:
        """Takes a slot and its KV back."""

    # -- the device's side -----------------------------------------------------------------------------------------------

    def propose(self, rows: int, k: int, mode: Mode, spans: list[Span] | None = None) -> None:
        """Queues the drafting of k > 0 tokens a row, for a bucket of rows. The drafts stand in the history behind the rows' tokens."""

    def drafted(self, rows: int) -> Tensor | None:
        """How many tokens of each row were drafted; None: k of each.  # int64 [rows]"""
        del rows
        return None

    def probs(self, drafts: Tensor, target_probs: Tensor) -> Tensor:
        """What the drafts were drawn from.

        Args:
            drafts: int64 [B, k]
            target_probs: float32 [B, k + 1, vocab]

        Returns:
            float32 [B, k, vocab]
        """
        del drafts
        return target_probs[:, :0]

    def trace(self, capture: Capture, rows: int, k: int, mode: Mode) -> None:
        """Goes once through each kind of step that propose queues, where that may be done over whatever memory holds."""


class PagedDrafter(GraphDrafter):
    """A packed model that drafts token by token, with KV in pages.

    Invariant: the KV of a slot is valid below position `seen`. Where a slot has caught up, every round since has drafted: the model then
    lacks no more than the token before the last, which draft_first takes in.

    Args:
        decoder: the model.
        pool: of its pages.
        prefill: of its KV.
        chooser: of tokens.
        graphs: of captured steps.
        verifying: where the target verifies on other lanes than the drafter's: the rows' lines where it ends.
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
        self.decoder = decoder
        self.pool = pool
        self.prefill = prefill
        self.pools, self.prefills = (pool,), (prefill,)
        self.chooser = chooser
        self.graphs = graphs
        self.verifying = verifying
        self.ops: TorchOps = decoder.ops
        self.state = state = chooser.state
        self._seen = [0] * (state.slots + 1)
        self._caught_up = [False] * (state.slots + 1)
        # By lane: what drawn rows' drafts come from, for the rejection rule.  # float32 [up to MAX_TOKENS, vocab]
        self._draft_probs: dict[Lane, Tensor] = {}

    # -- the host's side -------------------------------------------------------------------------------------------------

    def lags(self, sequences: Sequence[SequenceState]) -> list[int]:
        """Tokens of each sequence to be taken in before it drafts, as far as the host knows."""
        caught_up, seen = self._caught_up, self._seen
        return [0 if caught_up[s.slot] else s.length - seen[s.slot] for s in sequences]

    def lagging(self, sequences: Sequence[SequenceState]) -> list[SequenceState]:
        """The sequences that it must catch up with."""
        caught_up = self._caught_up
        return [s for s in sequences if not caught_up[s.slot]]

    def catch_up(self, sequences: Sequence[SequenceState]) -> None:
        """Queues prefill forwards over what it has not seen."""
        self.pool.upload()
        if self.verifying is not None:
            self.state.join([s.slot for s in sequences], sequences)
        self.prefill.fill([(s.slot, self._seen[s.slot], s.length) for s in sequences])
        for s in sequences:
            self._seen[s.slot], self._caught_up[s.slot] = s.length, True

    def skip(self, sequences: Sequence[SequenceState]) -> None:
        """A round without drafts is launched: what it commits must be caught up with."""
        for s in sequences:
            self._caught_up[s.slot] = False

    def commit(self, sequences: Sequence[SequenceState]) -> None:
        """Accepted drafts are the sequences' own tokens: their KV is valid."""
        seen = self._seen
        for s in sequences:
            seen[s.slot] = max(seen[s.slot], s.length - 1)

    def evict(self, slot: int) -> None:
        """Takes a slot and its pages back."""
        self.pool.evict(slot)
        self._seen[slot], self._caught_up[slot] = 0, False

    # -- the device's side -----------------------------------------------------------------------------------------------

    def propose(self, rows: int, k: int, mode: Mode, spans: list[Span] | None = None) -> None:
        """Queues k forwards; and where the target verifies on another lane, the copy of what drawn rows' drafts come from."""
        graphs, lane = self.graphs, self.state.lane
        graphs.run(("first", rows, mode), lambda capture: self.draft_first(capture, rows, mode), lane, spans)
        for _ in range(k - 1):
            graphs.run(("next", rows, mode), lambda capture: self.draft_next(capture, rows, mode), lane, spans)
        if (back := self.verifying) is not None and self.chooser.needs_probs(mode):
            graphs.run(("probs", rows, k), lambda capture: self._hand_over_probs(capture, back, rows * k), lane)

    def draft_first(self, capture: Capture, rows: int, mode: Mode) -> None:
        """The first draft token of each row.

        The drafter takes each row's last two tokens: of the one before the last it may lack the KV, after a full acceptance; to
        write what is there already costs less than to ask.
        """
        self._draft(capture, rows, mode, anew=True)

    def draft_next(self, capture: Capture, rows: int, mode: Mode) -> None:
        """The next draft token, after as many as `state.drafted` says."""
        self._draft(capture, rows, mode, anew=False)

    def _draft(self, capture: Capture, rows: int, mode: Mode, *, anew: bool) -> None:
        state, decoder, chooser = self.state, self.decoder, self.chooser
        n = 2 if anew else 1
        tokens, at = chooser.next_tokens(rows, n, back=n - 1, drafted=None if anew else state.drafted)
        hidden, at = decoder.forward(capture, tokens, at)
        logits, at = decoder.logits(capture, hidden.view(rows, n, -1)[:, -1].contiguous(), at)
        # Under the coupled rule the drafter draws with the target's noise, to land on the same token as often as it can.
        purpose = Purpose.TOKEN if chooser.rule == "coupled" else Purpose.DRAFT
        last = at.token_positions.view(rows, n)[:, -1:]
        drafts, _, drawn_from = chooser.choose(logits[:, None], at.slots, last + 1, mode, purpose)
        if chooser.needs_probs(mode):
            assert drawn_from is not None, "asked for"
            places = torch.arange(rows, device=state.device) + (0 if anew else state.drafted * rows)
            self._probs(state).index_copy_(0, places, drawn_from.dense(chooser.vocab_size)[:, 0])
        # The draft stands in the history, beyond the row's length, where the next step of the round and verify find it.
        self.ops.keep_drafts(state.history, at.slots, at.token_positions, drafts.reshape(-1), state.drafted, anew=anew)

    def probs(self, drafts: Tensor, target_probs: Tensor) -> Tensor:
        """As kept by the draft steps, see GraphDrafter.probs."""
        rows, k = drafts.shape
        if k == 0:
            return target_probs[:, :0]
        verifying = self.verifying or self.state
        return self._probs(verifying)[: k * rows].view(k, rows, -1).transpose(0, 1)

    def _hand_over_probs(self, capture: Capture, back: RowState, count: int) -> None:
        (probs,) = capture.to_lane(back.lane, self._probs(self.state)[:count])
        self._probs(back)[:count].copy_(probs)

    def _probs(self, state: RowState) -> Tensor:
        if state.lane not in self._draft_probs:
            tokens = min(MAX_TOKENS, state.slots * max(1, state.max_k))
            shape = (tokens, self.chooser.vocab_size)
            self._draft_probs[state.lane] = torch.zeros(shape, dtype=torch.float32, device=state.device)
        return self._draft_probs[state.lane]

    def trace(self, capture: Capture, rows: int, k: int, mode: Mode) -> None:
        """The first draft token, and the next."""
        if k > 0:
            self.draft_first(capture, rows, mode)
        if k > 1:
            self.draft_next(capture, rows, mode)
