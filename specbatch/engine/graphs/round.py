"""The steps of one round, as straight-line code over static tensors: recorded once, replayed for every batch of their size.

draft_first, draft_next ... draft_next, verify. What one leaves for the next lies in the RowState. Nothing here reads a device value
on the host.
"""

from __future__ import annotations

import torch
from torch import Tensor

from specbatch.engine.acceptance import Acceptance, accept_by_rejection
from specbatch.engine.counter_rng import Purpose
from specbatch.engine.general.drafter import fit_vocabulary
from specbatch.engine.general.ngram import NGramDrafter, lookup
from specbatch.engine.graphs.cuda_graphs import Capture
from specbatch.engine.graphs.decoder import Decoder, RowsAt
from specbatch.engine.graphs.reference import TorchOps
from specbatch.engine.graphs.state import FIELDS, MAX_CANDIDATES, Mode, RowState
from specbatch.engine.request import AcceptanceRule
from specbatch.engine.sampling import Distribution, RowSampling, distribution, distribution_of_candidates, gumbel_max

MAX_TOKENS = 1024  # of one verify forward: what bounds the memory of logits


class Round:
    """Target, drafter and the rows' state, and what a round does with them.

    Args:
        target: verifies.
        drafter: a packed model, an n-gram lookup, or None.
        state: of the rows.
        rule: coupled or rejection.
    """

    def __init__(
        self, target: Decoder, drafter: Decoder | NGramDrafter | None, state: RowState, rule: AcceptanceRule
    ) -> None:
        self.target = target
        self.drafter = drafter
        self.state = state
        self.rule = rule
        self.ops: TorchOps = target.ops
        # What drawn rows' drafts come from, for the rejection rule.  # float32 [up to MAX_TOKENS, vocab]
        self._draft_probs: Tensor | None = None

    # -- drafting --------------------------------------------------------------------------------------------------------

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
        state, drafter = self.state, self.drafter
        assert isinstance(drafter, Decoder), "only a model drafts token by token"
        n = 2 if anew else 1
        tokens, at = self._next_tokens(rows, n, back=n - 1, drafted=None if anew else state.drafted)
        hidden = drafter.forward(capture, tokens, at)
        logits = drafter.logits(capture, hidden.view(rows, n, -1)[:, -1].contiguous())
        (logits,) = capture.to_device(state.device, logits)
        # Under the coupled rule the drafter races the target's noise, to land on the same token as often as it can.
        purpose = Purpose.TOKEN if self.rule == "coupled" else Purpose.DRAFT
        last = at.token_positions.view(rows, n)[:, -1:]
        drafts, _, drawn_from = self._choose(logits[:, None], at.slots, last + 1, mode, purpose)
        if self.rule == "rejection" and not mode.greedy:
            assert drawn_from is not None, "asked for by _choose"
            places = torch.arange(rows, device=state.device) + (0 if anew else state.drafted * rows)
            self._probs().index_copy_(0, places, drawn_from.dense(self.target.vocab_size)[:, 0])
        # The draft stands in the history, beyond the row's length, where the next step of the round and verify find it.
        self.ops.keep_drafts(state.history, at.slots, at.token_positions, drafts.reshape(-1), state.drafted, anew=anew)

    def _next_tokens(self, rows: int, n: int, *, back: int, drafted: Tensor | None) -> tuple[Tensor, RowsAt]:
        state = self.state
        slots = state.rows[:rows]
        tokens, *where = self.ops.next_tokens(state.history, state.lengths, slots, n, back, drafted)
        return tokens, RowsAt(slots, *where)

    def look_up(self, capture: Capture, rows: int, k: int) -> None:
        """All k drafts of an n-gram lookup in the rows' own tokens."""
        del capture
        state, drafter = self.state, self.drafter
        assert isinstance(drafter, NGramDrafter), "only n-grams are looked up"
        slots = state.rows[:rows]
        last = state.lengths[slots]
        tokens, found = lookup(state.history[slots], last, k, max_ngram=drafter.max_ngram, min_ngram=drafter.min_ngram)
        state.num_drafted[:rows] = found
        at = last[:, None] + torch.arange(1, k + 1, device=state.device)
        state.history.index_put_((slots[:, None], at), tokens)

    # -- verifying -------------------------------------------------------------------------------------------------------

    def verify(self, capture: Capture, rows: int, k: int, mode: Mode) -> None:
        """One target forward over each row's last token and its k drafts, what stands of them, and the rows moved on by it."""
        state, target = self.state, self.target
        tokens, at = self._next_tokens(rows, k + 1, back=0, drafted=None)
        hidden = target.forward(capture, tokens, at)
        (logits,) = capture.to_device(state.device, target.logits(capture, hidden))
        positions = at.token_positions.view(rows, k + 1)
        chosen = self._choose(logits.view(rows, k + 1, -1), at.slots, positions + 1, mode, Purpose.TOKEN)
        target_tokens, finite, drawn_from = chosen
        drafted = state.num_drafted[:rows] if isinstance(self.drafter, NGramDrafter) else None
        if self.rule == "rejection" and not mode.greedy:
            assert drawn_from is not None, "asked for by _choose"
            drafts = tokens.view(rows, k + 1)[:, 1:]
            drafted = torch.full_like(at.slots, k) if drafted is None else drafted.clamp(max=k)
            acceptance = self._reject(drafts, drafted, drawn_from, at.slots, positions, mode)
            self._commit(acceptance, drafted, finite, at.slots, positions)
            return
        self.ops.commit_coupled(
            state.history, state.lengths, state.ends, at.slots, target_tokens, finite, drafted, state.outcome[:rows]
        )

    def _reject(
        self,
        drafts: Tensor,
        drafted: Tensor,
        drawn_from: Distribution,
        slots: Tensor,
        positions: Tensor,
        mode: Mode,
    ) -> Acceptance:
        """What stands by the rejection rule.  # drafts int64 [B, k], positions int64 [B, k + 1]"""
        target_probs = drawn_from.dense(self.target.vocab_size)
        draft_probs = self._draft_probs_of(drafts, target_probs)
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
        told = torch.stack([acceptance.accepted, drafted, finite.all(-1).long()], 1)
        state.outcome[: len(slots), : FIELDS + k + 1] = torch.cat([told, acceptance.tokens], 1)

    def _draft_probs_of(self, drafts: Tensor, target_probs: Tensor) -> Tensor:
        """What the drafts were drawn from.  # float32 [B, k, vocab]"""
        rows, k = drafts.shape
        if isinstance(self.drafter, NGramDrafter):
            return torch.zeros_like(target_probs[:, :k]).scatter_(-1, drafts[..., None], 1.0)
        if k == 0:
            return target_probs[:, :0]
        return self._probs()[: k * rows].view(k, rows, -1).transpose(0, 1)

    def _probs(self) -> Tensor:
        if self._draft_probs is None:
            tokens = min(MAX_TOKENS, self.state.slots * max(1, self.state.max_k))
            shape = (tokens, self.target.vocab_size)
            self._draft_probs = torch.zeros(shape, dtype=torch.float32, device=self.state.device)
        return self._draft_probs

    # -- choosing tokens -------------------------------------------------------------------------------------------------

    def _choose(
        self, logits: Tensor, slots: Tensor, positions: Tensor, mode: Mode, purpose: Purpose
    ) -> tuple[Tensor, Tensor, Distribution | None]:
        """Each row's token at each position.

        Args:
            logits: [B, n, vocab of the drafter or the target]
            slots: int64 [B]
            positions: of the tokens to be chosen, in their rows  # int64 [B, n]
            mode: what kinds of rows there are.
            purpose: of the draws.

        Returns:
            tokens int64 [B, n]; finite bool [B, n]; under the rejection rule what drawn rows' tokens come from
        """
        rows, n = positions.shape
        logits = fit_vocabulary(logits, self.target.vocab_size)
        flat = logits.reshape(rows * n, -1)
        if mode.greedy:
            tokens, finite = self.ops.sample(flat, None, None)
            return tokens.view(rows, n), finite.view(rows, n), None
        sampling = self.state.sampling(slots, mode)
        of_completion = positions - self.state.prompt_lengths[slots][:, None]
        keys = self.ops.position_keys(sampling.keys, of_completion, purpose)
        if self.rule == "coupled" and not mode.sorts and not mode.top_k:
            tokens, finite = self._sample(logits, keys, sampling, mode)
            return tokens, finite, None
        drawn_from = self._distribution(logits, sampling, mode)
        finite = logits.amax(-1).isfinite()
        return gumbel_max(drawn_from.probs, keys, drawn_from.tokens), finite, drawn_from

    def _sample(self, logits: Tensor, keys: Tensor, sampling: RowSampling, mode: Mode) -> tuple[Tensor, Tensor]:
        """The tokens of rows that look at the whole vocabulary, and of others beside them.  # see _choose"""
        rows, n, vocab_size = logits.shape
        flat, flat_keys = logits.reshape(rows * n, vocab_size), keys.reshape(-1)

        def by_position(of_row: Tensor) -> Tensor:
            return of_row[:, None].expand(rows, n).reshape(-1).contiguous()

        temperature = by_position(sampling.temperature)
        if not mode.filters:
            tokens, finite = self.ops.sample(flat, flat_keys, temperature)
            return tokens.view(rows, n), finite.view(rows, n)
        few = (sampling.top_k > 0) & (sampling.top_k <= mode.candidates)  # they may have a top-p as well
        top_k = by_position(torch.where(few, 0, sampling.top_k))
        top_p = by_position(torch.where(few, 1.0, sampling.top_p))
        tokens, finite = self.ops.sample_filtered(flat, flat_keys, temperature, top_k, top_p)
        tokens, finite = tokens.view(rows, n), finite.view(rows, n)
        if mode.candidates:
            drawn_from = self._of_candidates(logits, sampling, min(mode.candidates, vocab_size))
            tokens = torch.where(few[:, None], gumbel_max(drawn_from.probs, keys, drawn_from.tokens), tokens)
        return tokens, finite

    def _distribution(self, logits: Tensor, sampling: RowSampling, mode: Mode) -> Distribution:
        if 0 < mode.top_k <= min(MAX_CANDIDATES, logits.shape[-1]):
            return self._of_candidates(logits, sampling, mode.top_k)
        return distribution(logits, sampling)

    def _of_candidates(self, logits: Tensor, sampling: RowSampling, count: int) -> Distribution:
        vocab_size = logits.shape[-1]
        scores, tokens = self.ops.top_candidates(logits.reshape(-1, vocab_size), count)
        shape = (*logits.shape[:-1], count)
        return distribution_of_candidates(scores.view(shape), tokens.view(shape), sampling, vocab_size)
