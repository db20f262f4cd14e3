"""Prompt lookup: draft what followed the last few tokens when they occurred before, in the row itself or in a finished one.

Saxena, "Prompt Lookup Decoding" (2023); vLLM calls it ngram. No model, no KV, next to no cost. Of finished rows see NGramStore.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from specbatch.engine.general.batch import Batch
from specbatch.engine.general.drafter import Drafter, Proposal
from specbatch.engine.general.ngram_store import NGramStore
from specbatch.engine.request import AcceptanceRule


class NGramDrafter(Drafter):
    """Drafts by lookup in the row's own tokens, and where a longer run of them occurs there in finished rows.

    Finished rows count where no text hangs on what is drafted: under the coupled rule, and for greedy rows. By rejection a drawn row's text
    would depend on which rows were finished.

    Args:
        max_ngram: longest run of last tokens that is looked for; the longest match wins, then the latest.
        min_ngram: shortest run that counts as a match.
    """

    learns = True

    def __init__(self, max_ngram: int = 4, min_ngram: int = 1) -> None:
        assert 1 <= min_ngram <= max_ngram, "1 <= min_ngram <= max_ngram"
        self.max_ngram = max_ngram
        self.min_ngram = min_ngram
        self.finished: NGramStore | None = None

    def store(self, device: torch.device) -> NGramStore:
        """Of the rows that have finished, which a new runner's rows find, too."""
        if self.finished is None or self.finished.device != device:
            self.finished = NGramStore(device)
        return self.finished

    def learn(self, batch: Batch, finished: Sequence[Sequence[int]]) -> None:
        """Rows have finished: their text may be drafted for others."""
        self.store(batch.device).add(finished)

    def propose(self, batch: Batch, k: int, rule: AcceptanceRule, vocab_size: int) -> Proposal:
        """Drafts up to k tokens a row; none where nothing matches."""
        history, last = batch.history[: batch.size, : batch.extent(0)], batch.lengths[: batch.size]
        by_rejection = rule == "rejection" and not batch.sampling.all_greedy
        tokens, num_drafted = self.look_up(history, last, k, None if by_rejection else self.finished)
        probs = F.one_hot(tokens, vocab_size).to(torch.float32) if by_rejection else None
        return Proposal(tokens, num_drafted, probs)

    def look_up(self, history: Tensor, last: Tensor, k: int, finished: NGramStore | None) -> tuple[Tensor, Tensor]:
        """As lookup; and in finished rows, for what has a longer run there."""
        tokens, num_drafted, run = lookup(history, last, k, max_ngram=self.max_ngram, min_ngram=self.min_ngram)
        if finished is None:
            return tokens, num_drafted
        others, num_others, longer = finished.look_up(history, last, k)
        use = longer > run
        return torch.where(use[:, None], others, tokens), torch.where(use, num_others, num_drafted)


def lookup(history: Tensor, last: Tensor, k: int, *, max_ngram: int, min_ngram: int) -> tuple[Tensor, Tensor, Tensor]:
    """The k tokens after the best earlier occurrence of each row's last tokens.

    Args:
        history: tokens by position  # int64 [batch, positions]
        last: position of each row's last token  # int64 [batch]
        k: tokens to draft.
        max_ngram: see NGramDrafter.
        min_ngram: see NGramDrafter.

    Returns:
        tokens int64 [batch, k]; num_drafted int64 [batch], 0 or k; length of the run int64 [batch], 0 without one
    """
    ends = torch.arange(history.shape[1], device=history.device)  # where an earlier occurrence may end
    running = ends < last[:, None]
    matched = torch.zeros_like(history)  # how many tokens, read backwards, agree  # [batch, positions]
    for back in range(max_ngram):
        query = history.gather(1, (last - back).clamp(min=0)[:, None])
        earlier = history.roll(back, dims=1)  # at `end`: the token at end - back
        running = running & (ends >= back) & (earlier == query)
        matched += running
    best, end = (matched * history.shape[1] + ends).max(1)  # the longest match, then the latest
    found = best >= min_ngram * history.shape[1]
    # A match so close that its continuation runs past the last token is read as a period, and repeated.
    period = (last - end).clamp(min=1)
    offsets = torch.arange(k, device=history.device) % period[:, None]
    tokens = history.gather(1, (end[:, None] + 1 + offsets).clamp(max=history.shape[1] - 1))
    run = torch.where(found, best // history.shape[1], 0)
    return tokens, torch.where(found, k, 0), run
