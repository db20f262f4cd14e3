"""Prompt lookup: draft what followed the last few tokens when they occurred before in the row itself.

Saxena, "Prompt Lookup Decoding" (2023); vLLM calls it ngram. No model, no KV, next to no cost.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from specbatch.engine.general.batch import Batch
from specbatch.engine.general.drafter import Drafter, Proposal
from specbatch.engine.request import AcceptanceRule


class NGramDrafter(Drafter):
    """Drafts by lookup in the row's own tokens, which the batch's history holds.

    Args:
        max_ngram: longest run of last tokens that is looked for; the longest match wins, then the latest.
        min_ngram: shortest run that counts as a match.
    """

    def __init__(self, max_ngram: int = 4, min_ngram: int = 1) -> None:
        assert 1 <= min_ngram <= max_ngram, "1 <= min_ngram <= max_ngram"
        self.max_ngram = max_ngram
        self.min_ngram = min_ngram

    def propose(self, batch: Batch, k: int, rule: AcceptanceRule, vocab_size: int) -> Proposal:
        """Drafts up to k tokens a row; none where nothing matches."""
        tokens, num_drafted = lookup(
            batch.history[: batch.size, : batch.extent(0)],
            batch.lengths[: batch.size],
            k,
            max_ngram=self.max_ngram,
            min_ngram=self.min_ngram,
        )
        needs_probs = rule == "rejection" and not batch.sampling.all_greedy
        probs = F.one_hot(tokens, vocab_size).to(torch.float32) if needs_probs else None
        return Proposal(tokens, num_drafted, probs)


def lookup(history: Tensor, last: Tensor, k: int, *, max_ngram: int, min_ngram: int) -> tuple[Tensor, Tensor]:
    """The k tokens after the best earlier occurrence of each row's last tokens.

    Args:
        history: tokens by position  # int64 [batch, positions]
        last: position of each row's last token  # int64 [batch]
        k: tokens to draft.
        max_ngram: see NGramDrafter.
        min_ngram: see NGramDrafter.

    Returns:
        tokens int64 [batch, k]; num_drafted int64 [batch], 0 or k
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
    return tokens, torch.where(found, k, 0)
