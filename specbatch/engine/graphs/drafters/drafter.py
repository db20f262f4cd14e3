"""The seam behind which drafts are proposed inside captured rounds."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from specbatch.engine.counter_rng import Purpose
from specbatch.engine.graphs.cuda_graphs import Capture, CudaGraphRunner, Span
from specbatch.engine.graphs.kv.pool import PagePool
from specbatch.engine.graphs.lanes import Lane
from specbatch.engine.graphs.logits.token_choice import TokenChooser
from specbatch.engine.graphs.mode import Mode
from specbatch.engine.graphs.prefill import Prefill
from specbatch.engine.graphs.reference import TorchOps
from specbatch.engine.graphs.sizes import MAX_TOKENS
from specbatch.engine.graphs.stage import RowsAt
from specbatch.engine.graphs.state import RowState
from specbatch.engine.graphs.taps import Taps
from specbatch.engine.logits.grammar import GrammarRound
from specbatch.engine.sequence import SequenceState


class GraphDrafter:
    """What every drafter is to pair and runner; this one proposes nothing and keeps nothing: the target alone.

    pools, prefills: of its KV, where it has any; it then lags behind what was committed without it
    lookahead: tokens behind a position that what it keeps of that position hangs on
    group: of rows, whose round is next
    """

    pools: tuple[PagePool, ...] = ()
    prefills: tuple[Prefill, ...] = ()
    grammars: GrammarRound | None = None
    lookahead = 0
    group = 0

    # -- the host's side -------------------------------------------------------------------------------------------------

    def join(self, slot: int, shared: int) -> None:
        """A sequence takes a slot, whose first tokens, so many, the target shares with others."""

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

    def learn(self, finished: Sequence[SequenceState]) -> None:
        """Sequences have finished: what they said may be drafted for others."""

    def evict(self, slot: int) -> None:
        """Takes a slot and its KV back."""

    def regrouped(self, sequences: Sequence[SequenceState]) -> None:
        """Sequences were dealt out to other groups. No round is in flight."""

    def pools_of(self, group: int) -> tuple[PagePool, ...]:
        """Those of `pools` that a group's rounds write to."""
        del group
        return self.pools

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

    def taps(self, tokens: int) -> Taps | None:
        """What of the target it drafts from: room for what a verify forward over so many tokens leaves; None: nothing."""
        del tokens
        return None

    def take_in(self, taps: Taps, at: RowsAt, following: Tensor) -> None:
        """A round is committed: takes in what its verify forward has left.

        Args:
            taps: as it was filled.
            at: where the verified tokens stand.
            following: the target's token after each of them  # int64 [B, k + 1]
        """

    def trace(self, capture: Capture, rows: int, k: int, mode: Mode) -> None:
        """Goes once through each kind of step that propose queues, where that may be done over whatever memory holds."""


def certainly(drafts: Tensor, target_probs: Tensor) -> Tensor:
    """What drafts were drawn from that come without a draw, see GraphDrafter.probs."""
    return torch.zeros_like(target_probs[:, : drafts.shape[1]]).scatter_(-1, drafts[..., None], 1.0)


class StepDrafter(GraphDrafter):
    """Drafts token by token: the device's side of drafters whose steps are forwards of one token a row.

    Args:
        chooser: of tokens.
        graphs: of captured steps.
        verifying: where the target verifies on other lanes than the drafter's: the rows' lines where it ends.
    """

    def __init__(self, chooser: TokenChooser, graphs: CudaGraphRunner, verifying: RowState | None = None) -> None:
        self.chooser = chooser
        self.graphs = graphs
        self.verifying = verifying
        self.ops: TorchOps = chooser.ops
        self.state: RowState = chooser.state
        # By lane: what drawn rows' drafts come from, for the rejection rule.  # float32 [up to MAX_TOKENS, vocab]
        self.draft_probs: dict[Lane, Tensor] = {}
        # By kind of step and rows, what steps captured apart have between them.
        self._forwarded: dict[tuple[str, int, bool], tuple[Tensor, RowsAt]] = {}

    def propose(self, rows: int, k: int, mode: Mode, spans: list[Span] | None = None) -> None:
        """Queues k forwards; and where the target verifies on another lane, the copy of what drawn rows' drafts come from."""
        graphs, lane = self.graphs, self.state.lane
        if self.grammars is not None:
            for drafted in range(k):
                self._draft_masked(self.grammars, rows, drafted, mode)
        else:
            graphs.run(
                ("first", lane.number, rows, mode), lambda capture: self.draft_first(capture, rows, mode), lane, spans
            )
            for _ in range(1, k):
                graphs.run(
                    ("next", lane.number, rows, mode), lambda capture: self.draft_next(capture, rows, mode), lane, spans
                )
        if (back := self.verifying) is not None and self.chooser.needs_probs(mode):
            graphs.run(
                ("probs", lane.number, rows, k), lambda capture: self._hand_over_probs(capture, back, rows * k), lane
            )

    def _draft_masked(self, grammars: GrammarRound, rows: int, drafted: int, mode: Mode) -> None:
        """A draft where any row has a grammar: the forward and the choice are steps of their own, between which the host makes the mask.

        It waits for the draft before, not for the forward, which is queued already; over several lanes for both.
        """
        state, anew = self.state, drafted == 0
        lane, kind = state.lane, "first" if anew else "next"
        read = state.read_drafts(grammars.rows, drafted)

        def forward(capture: Capture) -> None:
            logits, at = self._forward(capture, rows, anew=anew, cascade=mode.cascade)
            self._forwarded[kind, rows, mode.cascade] = self.chooser.keep(logits), at

        apart = len(self.graphs.lanes) == 1
        if apart:
            self.graphs.run((kind, "forward", rows, mode.cascade), forward, lane)
        grammars.fill(drafted + 1, read())
        state.options.bring_masks(grammars)
        if apart:
            found = lambda _: self._settle(*self._forwarded[kind, rows, mode.cascade], mode, anew=anew)  # noqa: E731
            self.graphs.run((kind, "choice", rows, mode), found, lane)
        else:
            self.graphs.run(
                (kind, lane.number, rows, mode), lambda capture: self._draft(capture, rows, mode, anew=anew), lane
            )

    def draft_first(self, capture: Capture, rows: int, mode: Mode) -> None:
        """The first draft token of each row."""
        self._draft(capture, rows, mode, anew=True)

    def draft_next(self, capture: Capture, rows: int, mode: Mode) -> None:
        """The next draft token, after as many as `state.drafted` says."""
        self._draft(capture, rows, mode, anew=False)

    def _draft(self, capture: Capture, rows: int, mode: Mode, *, anew: bool) -> None:
        self._settle(*self._forward(capture, rows, anew=anew, cascade=mode.cascade), mode, anew=anew)

    def _forward(self, capture: Capture, rows: int, *, anew: bool, cascade: bool = False) -> tuple[Tensor, RowsAt]:
        """Logits of each row's next draft, and where the tokens stand that it follows from.  # [B, vocab]"""
        raise NotImplementedError

    def _settle(self, logits: Tensor, at: RowsAt, mode: Mode, *, anew: bool) -> None:
        """Chooses the drafts. They stand in the history, beyond the rows' lengths, where the next step of the round and verify find them."""
        raise NotImplementedError

    def _choose(self, logits: Tensor, slots: Tensor, positions: Tensor, mode: Mode, *, anew: bool) -> Tensor:
        """The draft tokens at these positions; keeps what they were drawn from, where acceptance asks.  # [B, vocab] -> int64 [B]"""
        chooser, state, rows = self.chooser, self.state, len(slots)
        # Under the coupled rule the drafter draws with the target's noise, to land on the same token as often as it can.
        purpose = Purpose.TOKEN if chooser.rule == "coupled" else Purpose.DRAFT
        drafts, _, drawn_from = chooser.choose(logits[:, None], slots, positions, mode, purpose)
        if chooser.needs_probs(mode):
            assert drawn_from is not None, "asked for"
            places = torch.arange(rows, device=state.device) + (0 if anew else state.drafted * rows)
            self._probs(state).index_copy_(0, places, drawn_from.dense(chooser.vocab_size)[:, 0])
        return drafts.reshape(-1)

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
        if state.lane not in self.draft_probs:
            tokens = min(MAX_TOKENS, state.slots * max(1, state.max_k))
            shape = (tokens, self.chooser.vocab_size)
            self.draft_probs[state.lane] = torch.zeros(shape, dtype=torch.float32, device=state.device)
        return self.draft_probs[state.lane]

    def trace(self, capture: Capture, rows: int, k: int, mode: Mode) -> None:
        """The first draft token, and the next."""
        if k > 0:
            self.draft_first(capture, rows, mode)
        if k > 1:
            self.draft_next(capture, rows, mode)
