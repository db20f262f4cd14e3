"""N-gram lookup inside captured rounds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from specbatch.engine.general.ngram import NGramDrafter
from specbatch.engine.graphs.cuda_graphs import Capture, CudaGraphRunner, Span
from specbatch.engine.graphs.drafters.drafter import GraphDrafter, certainly
from specbatch.engine.graphs.mode import Mode
from specbatch.engine.graphs.state import RowState
from specbatch.engine.host_copies import upload
from specbatch.engine.request import AcceptanceRule
from specbatch.engine.sequence import SequenceState


class LookupDrafter(GraphDrafter):
    """N-gram lookup in the rows' own tokens, and in those of finished rows. See NGramDrafter.

    Args:
        ngrams: how it looks up.
        state: of the rows, where rounds begin.
        graphs: of captured steps.
        rule: by which drawn rows accept drafts.
    """

    def __init__(self, ngrams: NGramDrafter, state: RowState, graphs: CudaGraphRunner, rule: AcceptanceRule) -> None:
        self.ngrams = ngrams
        self.rule = rule
        self.finished = ngrams.store(state.device)
        self.state = state
        self.graphs = graphs

    def propose(self, rows: int, k: int, mode: Mode, spans: list[Span] | None = None) -> None:
        """Queues the lookup."""
        alone = self.rule == "rejection" and not mode.greedy
        step = partial(self.look_up, rows=rows, k=k, alone=alone)
        self.graphs.run(("look up", rows, k, alone), step, self.state.lane, spans)
        if self.grammars is not None and any(forced := self.grammars.forced_runs(k)):
            self.state.lane.run(partial(self._put_first, forced, k))

    def _put_first(self, forced: list[list[int]], k: int) -> None:
        """What grammars force takes the place of what was looked up and begins otherwise: lookups know no masks."""
        state, rows, device = self.state, len(forced), self.state.device
        lines = [[len(only), *only, *[0] * (k - len(only))] for only in forced]
        here = upload(torch.tensor(lines), torch.int64, device)
        count, only = here[:, :1], here[:, 1:]
        slots, inside = state.rows[:rows, None], torch.arange(k, device=device) < count
        at = state.lengths[slots] + torch.arange(1, k + 1, device=device)
        found, drafted = state.history[slots, at], state.num_drafted[:rows, None]
        begins = ((found == only) | ~inside).all(1, keepdim=True) & (drafted >= count)
        state.history[slots, at] = torch.where(inside, only, found)
        state.num_drafted[:rows] = torch.where(begins, drafted, count)[:, 0]

    def look_up(self, capture: Capture, rows: int, k: int, *, alone: bool) -> None:
        """All k drafts of an n-gram lookup; in the rows' own tokens alone, where text would hang on others'."""
        del capture
        state = self.state
        slots = state.rows[:rows]
        last = state.lengths[slots]
        tokens, found = self.ngrams.look_up(state.history[slots], last, k, None if alone else self.finished)
        state.num_drafted[:rows] = found
        at = last[:, None] + torch.arange(1, k + 1, device=state.device)
        state.history.index_put_((slots[:, None], at), tokens)

    def learn(self, finished: Sequence[SequenceState]) -> None:
        """Sequences have finished: what they said may be drafted for others."""
        self.state.lane.run(lambda: self.finished.add([sequence.text() for sequence in finished]))

    def drafted(self, rows: int) -> Tensor | None:
        """0 to k tokens.  # int64 [rows]"""
        return self.state.num_drafted[:rows]

    def probs(self, drafts: Tensor, target_probs: Tensor) -> Tensor:
        """The drafts themselves, for certain."""
        return certainly(drafts, target_probs)
