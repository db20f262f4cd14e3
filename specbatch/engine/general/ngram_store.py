"""What the job's finished rows said: the last n tokens of any row are looked up in them, as in suffix decoding.

Oliaro et al., "SuffixDecoding" (arXiv 2411.04975; vLLM's method `suffix`) keep suffix trees on the host and count what followed. Here the host is
a round behind the device, so the index lies beside the rows: a ring of tokens, and for a few lengths n a table from the hash of n tokens to
the place behind their latest occurrence. What is found there is compared before it counts: a table needs no deletion.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from specbatch.engine.host_copies import upload

CAPACITY = 1 << 19  # tokens; with the tables 16 MB
SIZES = (8, 4, 2)  # of n-grams, the longest first
_END = -1  # of a row, in the ring
_FACTOR = -7046029254386353131  # 2^64 / golden ratio: Knuth's multiplicative hashing, int64 wraps around


class NGramStore:
    """The latest tokens of finished rows, on one device. Static tensors: captures may read them.

    tokens: rows behind each other, _END after each  # int64 [capacity]
    tables: by size, the hash of an n-gram -> the place behind its latest occurrence  # int64 [len(SIZES), capacity]

    Args:
        device: of the tensors.
        capacity: tokens that are kept, the latest; a power of two.
    """

    def __init__(self, device: torch.device, capacity: int = CAPACITY) -> None:
        self.device = device
        self.capacity = capacity
        self.tokens = torch.full((capacity,), _END, dtype=torch.int64, device=device)
        self.tables = torch.zeros(len(SIZES), capacity, dtype=torch.int64, device=device)
        self._shift = 64 - (capacity.bit_length() - 1)
        self._next = 0  # where the next row begins

    def add(self, rows: Sequence[Sequence[int]]) -> None:
        """Takes in finished rows, as tokens. The host waits for nothing. Of more than half the capacity at once the last ones count."""
        if not rows:
            return
        kept = [token for row in rows for token in (*row, _END)][-self.capacity // 2 :]
        begin = self._next if self._next + len(kept) <= self.capacity else 0
        self._next = begin + len(kept)
        added = upload(kept, torch.int64, self.device)
        self.tokens[begin : self._next] = added
        for table, n in zip(self.tables, SIZES, strict=True):
            if len(added) > n:
                # Some lie over the end of a row: they are found by nothing.
                behind = torch.arange(begin + n, self._next, device=self.device)
                table.index_put_((self._hash(added[:-1].unfold(0, n, 1)),), behind)

    def look_up(self, history: Tensor, last: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """What followed the longest run of each row's last tokens that a finished row has, too.

        Args:
            history: tokens by position  # int64 [batch, positions]
            last: position of each row's last token  # int64 [batch]
            k: tokens to draft.

        Returns:
            tokens int64 [batch, k]; num_drafted int64 [batch], up to where the finished row ended; length of the run int64 [batch], 0 without one
        """
        longest = torch.arange(SIZES[0], 0, -1, device=self.device)
        tail = history.gather(1, (last[:, None] + 1 - longest).clamp(min=0))
        run, place = torch.zeros_like(last), torch.zeros_like(last)
        for table, n in zip(self.tables, SIZES, strict=True):
            ngram = tail[:, -n:]
            behind = table[self._hash(ngram)]
            same = self.tokens[(behind[:, None] - longest[-n:]).clamp(min=0)] == ngram
            found = same.all(1) & (behind >= n) & (last + 1 >= n) & (run == 0)
            run, place = torch.where(found, n, run), torch.where(found, behind, place)
        following = place[:, None] + torch.arange(k, device=self.device)
        tokens = self.tokens[following.clamp(max=self.capacity - 1)]
        num_drafted = torch.where(run > 0, (tokens != _END).cumprod(1).sum(1), 0)
        return tokens.clamp(min=0), num_drafted, run

    def _hash(self, ngrams: Tensor) -> Tensor:
        """int64 [m, n] -> int64 [m] below the capacity."""
        mixed = ngrams[:, 0] + 1
        for column in ngrams.unbind(1)[1:]:
            mixed = (mixed ^ (mixed >> 29)) * _FACTOR + column
        return ((mixed * _FACTOR) >> self._shift) & (self.capacity - 1)
