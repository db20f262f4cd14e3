"""The tokens that go into a captured step and those that come out of it: greedy, Gumbel-max over the vocabulary, or from a filtered distribution."""

from __future__ import annotations

import torch
from torch import Tensor

from specbatch.engine.counter_rng import Purpose
from specbatch.engine.general.drafter import fit_vocabulary
from specbatch.engine.graphs.mode import MAX_CANDIDATES, Mode
from specbatch.engine.graphs.reference import TorchOps
from specbatch.engine.graphs.stage import RowsAt
from specbatch.engine.graphs.state import RowState
from specbatch.engine.request import AcceptanceRule
from specbatch.engine.sampling import (
    Distribution,
    RowSampling,
    distribution,
    distribution_of_candidates,
    gumbel_max,
)


class TokenChooser:
    """Chooses the tokens of target and drafter alike.

    Args:
        state: of the rows, with their sampling parameters.
        ops: the operations.
        vocab_size: the target's.
        rule: coupled or rejection.
    """

    def __init__(self, state: RowState, ops: TorchOps, vocab_size: int, rule: AcceptanceRule) -> None:
        self.state = state
        self.ops = ops
        self.vocab_size = vocab_size
        self.rule = rule
        self._kept: Tensor | None = None

    def needs_probs(self, mode: Mode) -> bool:
        """Whether acceptance asks what tokens were drawn from."""
        return self.rule == "rejection" and not mode.greedy

    def next_tokens(self, rows: int, n: int, *, back: int, drafted: Tensor | None) -> tuple[Tensor, RowsAt]:
        """The next n tokens of the first rows of the batch, see TorchOps.next_tokens, and where they stand.  # int64 [rows * n]"""
        state = self.state
        slots = state.rows[:rows]
        found = self.ops.next_tokens(state.history, state.lengths, slots, n, back, drafted)
        tokens, first, token_slots, positions = found
        return tokens, RowsAt(slots, first, token_slots, positions)

    def keep(self, logits: Tensor) -> Tensor:
        """A copy that lasts until the next: a step that is captured for itself may choose from it.  # [R, vocab]"""
        count = logits.numel()
        if self._kept is None or len(self._kept) < count:
            self._kept = torch.empty(count, dtype=logits.dtype, device=logits.device)
        kept = self._kept[:count].view(logits.shape)
        return kept.copy_(logits)

    def choose(
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
        logits = fit_vocabulary(logits, self.vocab_size)
        if mode.processors.changes_logits:
            logits = self._processed(logits, slots, positions, mode)
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

    def _processed(self, logits: Tensor, slots: Tensor, positions: Tensor, mode: Mode) -> Tensor:
        """What tokens are chosen from, see logits.processors.process: the drafts of the round stand in the history already."""
        state, options = self.state, self.state.options
        of_rows = state.history, slots, positions, state.prompt_lengths, state.temperature
        mask = options.masks(*positions.shape)
        return self.ops.process_logits(logits, options.lines, mode.processors, *of_rows, mask)

    def _sample(self, logits: Tensor, keys: Tensor, sampling: RowSampling, mode: Mode) -> tuple[Tensor, Tensor]:
        """The tokens of rows that look at the whole vocabulary, and of others beside them.  # see choose"""
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
