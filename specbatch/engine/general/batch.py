"""The rows being decoded: row i of the batch lives in slot i, in every tensor and every cache."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from specbatch.engine.host_copies import upload
from specbatch.engine.logits.grammar import GrammarRound
from specbatch.engine.logits.options import Processor
from specbatch.engine.logits.processors import needed, process
from specbatch.engine.logits.row_options import RowOptions
from specbatch.engine.queued_round import FIELDS
from specbatch.engine.sampling import RowSampling
from specbatch.engine.sequence import SequenceState
from specbatch.engine.speculation.acceptance import Acceptance

_EXTENT_STEP = 64  # attended extents come in steps, so that shapes repeat and graphs can be kept for them


class Batch:
    """Per-row state on the device, and the rows themselves on the host.

    history: every token of a row at its position; beyond the row's last one, filler  # int64 [slots, positions]
    lengths: position of each row's last token = its valid KV in the target's cache  # int64 [slots]
    prompt_lengths: int64 [slots]
    outcome: of the last round that was queued, see queued_round  # int64 [slots, FIELDS + 1]
    shares_prefixes: what rows begin with alike is filled once

    Args:
        slots: rows at once.
        max_positions: positions a row may fill, speculative tokens included.
        device: of the tensors above.
    """

    def __init__(self, slots: int, max_positions: int, device: torch.device) -> None:
        self.slots = slots
        self.max_positions = max_positions
        self.device = device
        self.shares_prefixes = False
        self.rows: list[SequenceState] = []
        self.history = torch.zeros(slots, max_positions, dtype=torch.int64, device=device)
        self.lengths = torch.zeros(slots, dtype=torch.int64, device=device)
        self.prompt_lengths = torch.ones(slots, dtype=torch.int64, device=device)
        self.outcome = torch.zeros(slots, FIELDS + 1, dtype=torch.int64, device=device)
        self._sampling: RowSampling | None = None
        self._needs_host: bool | None = None
        self._options: RowOptions | None = None  # made with _sampling; None: no row asks for any
        self._processors = Processor.NONE
        self._grammars: GrammarRound | None = None  # of the round, once it has asked for masks

    @property
    def size(self) -> int:
        """Rows in the batch: slots 0 .. size - 1, without gaps."""
        return len(self.rows)

    @property
    def free(self) -> int:
        """Rows that may still join."""
        return self.slots - self.size

    @property
    def sampling(self) -> RowSampling:
        """The rows' sampling parameters, stacked anew only when the rows have changed."""
        if self._sampling is None:
            requests = [row.request for row in self.rows]
            self._sampling = RowSampling.of(requests, self.device)
            self._processors = needed(requests)
            self._options = RowOptions.of(requests, self.device) if self._processors else None
        return self._sampling

    def process(self, logits: Tensor, drafts: Tensor, start: int) -> Tensor:
        """What tokens are chosen from: the logits as they are, where no row asks for more.

        Args:
            logits: [size, n, vocab]
            drafts: of the round so far  # int64 [size, m]
            start: index among the round's tokens of the first that is to be chosen.
        """
        sampling = self.sampling
        if self._options is None or not self._processors.changes_logits:
            return logits
        self.history[: self.size].scatter_(1, self.positions(drafts.shape[1], start=1), drafts)
        rows = slice(0, self.size)
        positions = self.positions(logits.shape[1], start=start + 1)
        history = self.history[rows, : self.extent(start + logits.shape[1])]
        asked, prompts = (self._options, self._processors), self.prompt_lengths[rows]
        mask = self._mask(logits, drafts, start) if self._processors & Processor.GRAMMAR else None
        return process(logits, *asked, history, positions, prompts, sampling.temperature, mask)

    @property
    def needs_host(self) -> bool:
        """Whether a round begins only when the host has the tokens of the one before: a grammar goes by them; log probabilities are read with them."""
        if self._needs_host is None:
            requests = [row.request for row in self.rows]
            self._needs_host = any(each.grammar is not None or each.top_logprobs is not None for each in requests)
        return self._needs_host

    @property
    def top_logprobs(self) -> list[int | None]:
        """How many log probabilities beside a token's own each row asks for; None: not even that."""
        return [row.request.top_logprobs for row in self.rows]

    @property
    def forced(self) -> list[list[bool]] | None:
        """See GrammarRound, of the round so far; None where no row has a grammar."""
        return None if self._grammars is None else self._grammars.forced

    def _mask(self, logits: Tensor, drafts: Tensor, start: int) -> Tensor:
        if self._grammars is None:
            self._grammars = GrammarRound([row.request.grammar for row in self.rows], logits.shape[-1])
        end = start + logits.shape[1]
        self._grammars.fill(end, drafts.tolist())
        return torch.stack(self._grammars.masks[start:end], 1).to(self.device)

    def extent(self, k: int) -> int:
        """Positions that attention must cover when k tokens are drafted, rounded up so that shapes repeat."""
        longest = max(row.length + row.in_flight for row in self.rows) + k + 1
        return min(-(-longest // _EXTENT_STEP) * _EXTENT_STEP, self.max_positions)

    def positions(self, count: int, start: int = 0) -> Tensor:
        """Positions start .. start + count - 1, counted from each row's last token.  # int64 [size, count]"""
        return self.lengths[: self.size, None] + torch.arange(start, start + count, device=self.device)

    def completion_positions(self, count: int, start: int = 0) -> Tensor:
        """Indices in the rows' completions of the next tokens: what their random streams count.  # int64 [size, count]"""
        return self.positions(count, start + 1) - self.prompt_lengths[: self.size, None]

    def tokens_at(self, positions: Tensor) -> Tensor:
        """Tokens of each row at its positions; anything at negative ones.  # int64 [size, count]"""
        return self.history[: self.size].gather(1, positions.clamp(min=0))

    def join(self, rows: Sequence[SequenceState]) -> list[int]:
        """Adds rows at the end; returns their slots. Their KV up to row.length is the caller's to fill."""
        first, slots = self.size, range(self.size, self.size + len(rows))
        for slot, row in zip(slots, rows, strict=True):
            row.slot = slot
        self.rows += rows
        tokens = [[*row.request.prompt_token_ids, *row.token_ids] for row in rows]
        width = max(map(len, tokens))
        lines = [
            [row.length, len(row.request.prompt_token_ids), *line, *[0] * (width - len(line))]
            for row, line in zip(rows, tokens, strict=True)
        ]
        here = upload(torch.tensor(lines), torch.int64, self.device)
        joined = slice(first, self.size)
        self.lengths[joined], self.prompt_lengths[joined] = here[:, 0], here[:, 1]
        self.history[joined, :width] = here[:, 2:]
        self._sampling = self._needs_host = None
        return list(slots)

    def leave(self, slot: int) -> int | None:
        """Removes a row. The last row takes its slot; returns the slot it came from, whose KV must follow, or None."""
        last = self.size - 1
        self._sampling = self._needs_host = None
        row = self.rows.pop()
        if slot == last:
            return None
        self.rows[slot] = row
        row.slot = slot
        for state in (self.history, self.lengths, self.prompt_lengths):
            state[slot] = state[last]
        return last

    def commit(self, acceptance: Acceptance) -> None:
        """Moves every row on by its accepted + 1 tokens. What stands behind them is filler, overwritten later."""
        width = acceptance.tokens.shape[1]
        self._grammars = None
        self.history[: self.size].scatter_(1, self.positions(width, start=1), acceptance.tokens)
        self.lengths[: self.size] += acceptance.accepted + 1

    def advance(self, tokens: Tensor) -> None:
        """As commit, by one token.  # int64 [size, 1]"""
        lengths = self.lengths[: self.size]
        lengths += 1
        self.history[: self.size].scatter_(1, lengths[:, None], tokens)
