"""Drafting with a packed model that sees a row's first tokens and its last ones alone: attention sinks (Xiao et al., arXiv 2309.17453).

As there, what is left stands together: the model is shown a row without its middle, at the positions that the tokens have in that. So
kernels, pages and rotary tables are those of short rows. The middle grows in steps: a row that has filled its room is shown its sinks and
last tokens anew, which is a short prefill. Under the coupled rule none of that changes a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from specbatch.engine.config import EngineConfig
from specbatch.engine.graphs.cuda_graphs import Capture
from specbatch.engine.graphs.drafters.paged import PagedDrafter
from specbatch.engine.graphs.kv.paging import PAGE
from specbatch.engine.graphs.kv.pool import PagePool, pages_for
from specbatch.engine.graphs.stage import RowsAt
from specbatch.engine.host_copies import upload
from specbatch.engine.sequence import SequenceState

SINKS = 16  # tokens from the first on that are always seen


def room(window: int) -> int:
    """Tokens of a row that the model sees at the most; at the least it is the sinks and the window."""
    return SINKS + 2 * window


def shown_positions(config: EngineConfig) -> int | None:
    """Positions that the model has KV for, a row's growth in rounds in flight among them; None: all, as rows are no longer or have no window."""
    if config.drafter_window is None:
        return None
    positions = room(config.drafter_window) + 3 * (config.max_k + 2)
    return positions if positions < config.max_positions else None


class WindowPool(PagePool):
    """Pages of rows without their middle: none is shared, for what they hold hangs on where a window stands; and there are enough for all."""

    def join(self, slot: int, keys: Sequence[bytes]) -> None:
        """A row takes the slot."""
        del slot, keys

    def missing(self, slot: int, positions: int) -> int:
        """As for the longest row that the model is shown."""
        return max(0, min(pages_for(positions), self.columns) - len(self.held[slot]))


class WindowedDrafter(PagedDrafter):
    """See PagedDrafter; `seen` counts a row's own positions.

    hidden: tokens of the row of each slot that are not seen, those behind the sinks  # int64 [slots + 1]

    Args:
        window: last tokens that are seen at least.
        more: as PagedDrafter.
    """

    def __init__(self, window: int, *more: Any) -> None:
        super().__init__(*more)
        self.window = window
        self.hidden = torch.zeros(self.state.slots + 1, dtype=torch.int64, device=self.state.device)
        self._hidden = [0] * (self.state.slots + 1)  # as the host has it
        self.prefill.show(self._tokens_of, room(window))

    def _tokens_of(self, slots: Tensor, positions: Tensor) -> Tensor:
        """The rows' own positions."""
        return torch.where(positions < SINKS, positions, positions + self.hidden[slots])

    # -- the host's side -------------------------------------------------------------------------------------------------

    def _shown(self, s: SequenceState) -> int:
        return s.length - self._hidden[s.slot]

    def _moves(self, s: SequenceState) -> bool:
        """Whether its window is moved where anything is queued for it; half of the room is left, so that rows move together."""
        return self._shown(s) > SINKS + self.window + self.window // 2

    def lags(self, sequences: Sequence[SequenceState]) -> list[int]:
        """Tokens of each sequence to be taken in before it drafts, as far as the host knows."""
        lagging = {id(s) for s in self.lagging(sequences)}
        return [self._count(s) if id(s) in lagging else 0 for s in sequences]

    def _count(self, s: SequenceState) -> int:
        return SINKS + self.window if self._moves(s) else s.length - self._seen[s.slot]

    def lagging(self, sequences: Sequence[SequenceState]) -> list[SequenceState]:
        """The sequences that it must catch up with: where one has filled its room, all that have filled half of it."""
        caught_up = self._caught_up
        full = any(self._shown(s) > room(self.window) for s in sequences)
        return [s for s in sequences if not caught_up[s.slot] or (full and self._moves(s))]

    def catch_up(self, sequences: Sequence[SequenceState]) -> None:
        """Queues prefill forwards over what it has not seen, of rows whose windows move over all that it is to see."""
        self.pool.upload()
        if self.verifying is not None:
            self.state.join([s.slot for s in sequences], sequences)
        stretches = []
        for s in sequences:
            if self._moves(s):
                self._hidden[s.slot], self._seen[s.slot] = s.length - SINKS - self.window, 0
            hidden, seen = self._hidden[s.slot], self._seen[s.slot]
            stretches.append((s.slot, max(0, seen - hidden) if seen else 0, s.length - hidden))
            self._seen[s.slot], self._caught_up[s.slot] = s.length, True
        slots = [s.slot for s in sequences]
        self.state.lane.run(partial(self._hide, slots, [self._hidden[slot] for slot in slots]))
        self.prefill.fill(stretches)

    def _hide(self, slots: list[int], hidden: list[int]) -> None:
        device = self.hidden.device
        self.hidden[upload(slots, torch.int64, device)] = upload(hidden, torch.int64, device)

    def evict(self, slot: int) -> None:
        """Takes a slot and its pages back."""
        super().evict(slot)
        self._hidden[slot] = 0

    # -- the device's side -----------------------------------------------------------------------------------------------

    def _forward(self, capture: Capture, rows: int, *, anew: bool, cascade: bool = False) -> tuple[Tensor, RowsAt]:
        del cascade  # no pages are shared
        n, decoder = 2 if anew else 1, self.decoder
        tokens, at = self.chooser.next_tokens(rows, n, back=n - 1, drafted=None if anew else self.state.drafted)
        hidden, last = self.hidden[at.slots], PAGE * self.pool.columns - 1
        first = (at.first - hidden).clamp(max=last - n + 1)  # what stands beyond belongs to no row
        shown = (first[:, None] + torch.arange(n, device=first.device)).view(-1)
        short = RowsAt(at.slots, first, at.token_slots, shown, (at.first, at.token_positions))
        states, short = decoder.forward(capture, tokens, short)
        logits, short = decoder.logits(capture, states.view(rows, n, -1)[:, -1].contiguous(), short)
        return logits, RowsAt(short.slots, short.along[0], short.token_slots, short.along[1])
