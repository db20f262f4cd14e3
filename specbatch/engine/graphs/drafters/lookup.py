"""N-gram lookup inside captured rounds."""

from __future__ import annotations

import torch
from torch import Tensor

from specbatch.engine.general.ngram import NGramDrafter, lookup
from specbatch.engine.graphs.cuda_graphs import Capture, CudaGraphRunner, Span
from specbatch.engine.graphs.drafters.drafter import GraphDrafter
from specbatch.engine.graphs.state import Mode, RowState


class LookupDrafter(GraphDrafter):
    """N-gram lookup in the rows' own tokens.

    Args:
        ngrams: how it looks up.
        state: of the rows, where rounds begin.
        graphs: of captured steps.
    """

    def __init__(self, ngrams: NGramDrafter, state: RowState, graphs: CudaGraphRunner) -> None:
        self.ngrams = ngrams
        self.state = state
        self.graphs = graphs

    def propose(self, rows: int, k: int, mode: Mode, spans: list[Span] | None = None) -> None:
        """Queues the lookup."""
        del mode
        self.graphs.run(("look up", rows, k), lambda capture: self.look_up(capture, rows, k), self.state.lane, spans)

    def look_up(self, capture: Capture, rows: int, k: int) -> None:
        """All k drafts of an n-gram lookup in the rows' own tokens."""
        del capture
        state, ngrams = self.state, self.ngrams
        slots = state.rows[:rows]
        last = state.lengths[slots]
        tokens, found = lookup(state.history[slots], last, k, max_ngram=ngrams.max_ngram, min_ngram=ngrams.min_ngram)
        state.num_drafted[:rows] = found
        at = last[:, None] + torch.arange(1, k + 1, device=state.device)
        state.history.index_put_((slots[:, None], at), tokens)

    def drafted(self, rows: int) -> Tensor | None:
        """0 or k tokens.  # int64 [rows]"""
        return self.state.num_drafted[:rows]

    def probs(self, drafts: Tensor, target_probs: Tensor) -> Tensor:
        """The drafts themselves, for certain."""
        return torch.zeros_like(target_probs[:, : drafts.shape[1]]).scatter_(-1, drafts[..., None], 1.0)
