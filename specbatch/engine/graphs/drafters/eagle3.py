"""Drafting with an EAGLE-3 head inside captured rounds."""

from __future__ import annotations

import torch
from torch import Tensor

from specbatch.engine.graphs.cuda_graphs import Capture, CudaGraphRunner
from specbatch.engine.graphs.drafters.drafter import StepDrafter
from specbatch.engine.graphs.drafters.head import PackedHead
from specbatch.engine.graphs.logits.token_choice import TokenChooser
from specbatch.engine.graphs.mode import Mode
from specbatch.engine.graphs.stage import RowsAt
from specbatch.engine.graphs.taps import Taps


class HeadDrafter(StepDrafter):
    """Drafts with a head, whose KV lies in the target's pages: it has none to reserve, and nothing to catch up with.

    Args:
        head: with its pages.
        chooser: of tokens.
        graphs: of captured steps.
    """

    lookahead = 1  # the KV of a position is made from the token after it, too

    def __init__(self, head: PackedHead, chooser: TokenChooser, graphs: CudaGraphRunner) -> None:
        super().__init__(chooser, graphs)
        self.head = head
        # By place in the batch, from one draft step to the next.  # [slots, hidden]
        self._hidden = torch.zeros_like(head.states[:-1])

    def taps(self, tokens: int) -> Taps | None:
        """Room for the inputs of the target's layers that the head reads."""
        return self.head.taps(tokens)

    def take_in(self, taps: Taps, at: RowsAt, following: Tensor) -> None:
        """Writes the KV of the verified positions."""
        self.head.take_in_rows(taps, at, following.reshape(-1))

    def _forward(self, capture: Capture, rows: int, *, anew: bool, cascade: bool = False) -> tuple[Tensor, RowsAt]:
        """The position before a token's own has the states that go with it: history and positions stand apart by one."""
        del capture, cascade
        state, head = self.state, self.head
        slots, history = state.rows[:rows], state.history[:, 1:]
        drafted = None if anew else state.drafted
        tokens, first, token_slots, positions = self.ops.next_tokens(history, state.lengths, slots, 1, 1, drafted)
        states = head.states[slots] if anew else self._hidden[:rows]
        at = RowsAt(slots, first, token_slots, positions)
        hidden, logits = head.forward(tokens, states, at)
        self._hidden[:rows].copy_(hidden)
        return logits, at

    def _settle(self, logits: Tensor, at: RowsAt, mode: Mode, *, anew: bool) -> None:
        state, positions = self.state, at.token_positions
        drafts = self._choose_of_head(logits, at.slots, positions[:, None] + 2, mode, anew=anew)
        self.ops.keep_drafts(state.history[:, 1:], at.slots, positions, drafts, state.drafted, anew=anew)

    def _choose_of_head(self, logits: Tensor, slots: Tensor, positions: Tensor, mode: Mode, *, anew: bool) -> Tensor:
        """Greedy rows choose among the head's own tokens; drawn ones, whose noise goes by ids, and processed ones among the target's."""
        if not mode.greedy or mode.processors:
            wide = self.head.of_target(logits, self.chooser.vocab_size)
            return self._choose(wide, slots, positions, mode, anew=anew)
        drafts, _ = self.ops.sample(logits, None, None)
        table = self.head.draft_to_target
        return drafts if table is None else self.ops.embed(drafts, table)[:, 0]
