"""The target's part of a captured round: one forward, what is accepted of the drafts, and the rows moved on by it.

Straight-line code over static tensors: captured once, replayed for every batch of its size. What the drafter leaves lies in the
RowState. Nothing here reads a device value on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from specbatch.engine.counter_rng import Purpose
from specbatch.engine.graphs.cuda_graphs import Capture, CudaGraphRunner
from specbatch.engine.graphs.decoder import Decoder
from specbatch.engine.graphs.drafters.drafter import GraphDrafter, certainly
from specbatch.engine.graphs.logits.token_choice import TokenChooser
from specbatch.engine.graphs.mode import Mode
from specbatch.engine.graphs.reference import TorchOps
from specbatch.engine.graphs.stage import RowsAt
from specbatch.engine.graphs.taps import Taps
from specbatch.engine.logits.options import Processor
from specbatch.engine.queued_round import FIELDS
from specbatch.engine.speculation.acceptance import Acceptance, accept_by_rejection


@dataclass(frozen=True, slots=True)
class _Forward:
    """What the target says of a round.

    logits: [B * (k + 1), vocab]
    at: where the verified tokens stand
    tokens: each row's last one and its drafts  # int64 [B, k + 1]
    drafted: how many of them are drafts, None for k  # int64 [B]
    taps: for the drafter
    given: whether the host has brought the drafts, each for certain
    """

    logits: Tensor
    at: RowsAt
    tokens: Tensor
    drafted: Tensor | None
    taps: Taps | None
    given: bool


class Verifier:
    """Verifies what the drafter proposes.

    Args:
        target: the model whose output counts.
        drafter: whose drafts stand in the history.
        chooser: of tokens, and of the acceptance rule, on the lane of the target's head.
        front: on the lane where the target begins; the same where that is one.
    """

    def __init__(
        self, target: Decoder, drafter: GraphDrafter, chooser: TokenChooser, front: TokenChooser | None = None
    ) -> None:
        self.target = target
        self.drafter = drafter
        self.chooser = chooser
        self.front = front or chooser
        self.state = chooser.state
        self.ops: TorchOps = target.ops
        self._forwarded: dict[tuple[int, int, bool, bool], _Forward] = {}  # what steps captured apart have between them

    def verify(self, capture: Capture, rows: int, k: int, mode: Mode) -> None:
        """One target forward over each row's last token and its k drafts, what stands of them, and the rows moved on by it."""
        self._settle(self._forward(capture, rows, k, cascade=mode.cascade), mode)

    def verify_masked(self, graphs: CudaGraphRunner, rows: int, k: int, mode: Mode) -> None:
        """Queues the same on one lane as two steps, where any row has a grammar: the host makes the last mask while the forward runs."""
        grammars, lane = self.drafter.grammars, self.state.lane
        assert grammars is not None, "of the round"
        drafts = grammars.drafts
        given = drafts is not None
        read = self.state.read_drafts(grammars.rows, k) if drafts is None else lambda: drafts
        at = rows, k, mode.cascade, given

        def forward(capture: Capture) -> None:
            found = self._forward(capture, rows, k, cascade=mode.cascade, given=given)
            self._forwarded[at] = replace(found, logits=self.chooser.keep(found.logits))

        graphs.run(("verify, forward", *at), forward, lane)
        self.bring_masks(lambda *_: read, k)
        graphs.run(("verify, choice", *at, mode), lambda _: self._settle(self._forwarded[at], mode), lane)

    def bring_masks(self, read_drafts: Callable[[int, int], Callable[[], Sequence[Sequence[int]]]], k: int) -> None:
        """Brings what grammars allow at all positions of the round to where tokens are chosen; the host waits for the drafts.

        Args:
            read_drafts: see RowState.
            k: drafts.
        """
        if (grammars := self.drafter.grammars) is not None:
            grammars.fill(k + 1, read_drafts(grammars.rows, k)())
            self.state.options.bring_masks(grammars)

    def _forward(self, capture: Capture, rows: int, k: int, *, cascade: bool = False, given: bool = False) -> _Forward:
        state, target = self.state, self.target
        tokens, at = self.front.next_tokens(rows, k + 1, back=0, drafted=None)
        at = replace(at, cascade=cascade)
        drafted = state.num_drafted[:rows] if given else self.drafter.drafted(rows)
        if self.front.state is not state:
            at = replace(at, along=(tokens,) if drafted is None else (tokens, drafted))
        taps = self.drafter.taps(len(tokens))
        hidden, at = target.forward(capture, tokens, at, taps)
        logits, at = target.logits(capture, hidden, at)
        if at.along:  # the lane of the head has the rows' tokens, but not the drafts
            tokens, *rest = at.along
            drafted = rest[0] if rest else None
            behind = state.lengths[at.slots][:, None] + torch.arange(k + 1, device=state.device)
            state.history.index_put_((at.slots[:, None], behind), tokens.view(rows, k + 1))
        return _Forward(logits, at, tokens.view(rows, k + 1), drafted, taps, given)

    def _settle(self, found: _Forward, mode: Mode) -> None:
        """Chooses the target's tokens, and moves the rows on."""
        state, at, logits = self.state, found.at, found.logits
        rows, n = found.tokens.shape
        positions = at.token_positions.view(rows, n)
        chosen = self.chooser.choose(logits.view(rows, n, -1), at.slots, positions + 1, mode, Purpose.TOKEN)
        tokens, finite, drawn_from = chosen
        if self.chooser.needs_probs(mode):
            assert drawn_from is not None, "asked for"
            drafts, drafted = found.tokens[:, 1:], found.drafted
            drafted = torch.full_like(at.slots, n - 1) if drafted is None else drafted.clamp(max=n - 1)
            target_probs = drawn_from.dense(self.chooser.vocab_size)
            draft_probs = certainly(drafts, target_probs) if found.given else self.drafter.probs(drafts, target_probs)
            acceptance = self._reject(drafts, drafted, draft_probs, target_probs, at.slots, positions, mode)
            self._commit(acceptance, drafted, finite, at.slots, positions)
            tokens = acceptance.tokens
        else:
            lines = state.history, state.lengths, state.ends, at.slots
            self.ops.commit_coupled(*lines, tokens, finite, found.drafted, state.outcome[:rows])
        self._keep_logprobs(logits, tokens, mode)
        if found.taps is not None:
            self.drafter.take_in(found.taps, at, tokens)

    def _keep_logprobs(self, logits: Tensor, tokens: Tensor, mode: Mode) -> None:
        """Where any row asks for them.  # [B * (k + 1), vocab], int64 [B, k + 1]"""
        kept = self.state.options.logprobs
        if not mode.processors & Processor.LOGPROBS or kept is None:
            return
        rows, n = tokens.shape
        for place, found in zip(kept, self.ops.logprobs(logits.view(rows, n, -1), tokens), strict=True):
            place[:rows, :n] = found

    def _reject(
        self,
        drafts: Tensor,
        drafted: Tensor,
        draft_probs: Tensor,
        target_probs: Tensor,
        slots: Tensor,
        positions: Tensor,
        mode: Mode,
    ) -> Acceptance:
        """What stands by the rejection rule.  # drafts int64 [B, k], positions int64 [B, k + 1]"""
        sampling = self.state.sampling(slots, mode)
        of_completion = positions + 1 - self.state.prompt_lengths[slots][:, None]
        return accept_by_rejection(drafts, drafted, draft_probs, target_probs, sampling, of_completion)

    def _commit(
        self, acceptance: Acceptance, drafted: Tensor, finite: Tensor, slots: Tensor, positions: Tensor
    ) -> None:
        """Moves every row on, see TorchOps.commit_coupled."""
        state, k = self.state, acceptance.tokens.shape[1] - 1
        last = positions[:, 0]
        moved = torch.minimum(acceptance.accepted + 1, state.ends[slots] - last)
        state.history.index_put_((slots[:, None], positions + 1), acceptance.tokens)
        state.lengths.index_put_((slots,), last + moved)
        told = torch.stack([acceptance.accepted, drafted, finite.long().cumprod(-1).sum(-1)], 1)
        state.outcome[: len(slots), : FIELDS + k + 1] = torch.cat([told, acceptance.tokens], 1)
