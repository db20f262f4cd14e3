"""Rows whose tokens a grammar allows: what the engine asks of one, and its masks along the drafts of a round.

The target's tokens are masked, and so are the drafts: what the grammar forbids is never drafted, and a text is the one of the masked target
alone. The masks come from the host, which has to know the drafts before a position: rounds with such rows are not launched ahead
(`ModelRunner.depth`), and the host waits for each of their drafts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor

BITS = 32  # tokens in one number of a mask


class Grammar:
    """Where one row stands in its grammar. It has taken in the row's tokens, and may look ahead along drafts.

    error: why no token can follow; "" as long as some can
    """

    error: str = ""

    def fill(self, mask: Tensor) -> None:
        """Sets the bits of the tokens that may come next, behind what was looked ahead.  # int32 [words], on the CPU"""
        raise NotImplementedError

    @classmethod
    def fill_rows(cls, grammars: Sequence[tuple[Self, int]], masks: Tensor) -> None:
        """Fills the masks of several grammars of the kind, each with its row.  # int32 [rows, words], on the CPU"""
        for grammar, row in grammars:
            grammar.fill(masks[row])

    def look_ahead(self, token: int) -> bool:
        """Takes in a draft, if it may come next; whether it may and further tokens can follow."""
        raise NotImplementedError

    def back(self) -> None:
        """Forgets the drafts."""
        raise NotImplementedError

    def commit(self, tokens: Sequence[int]) -> None:
        """Forgets the drafts, and takes in tokens of the row."""
        raise NotImplementedError

    def forced(self, most: int) -> Sequence[int]:
        """The next tokens, behind what was looked ahead, as far as each is the only one that may come: up to so many."""
        del most
        return ()


def mask_words(vocab_size: int) -> int:
    """Numbers of a mask."""
    return -(-vocab_size // BITS)


class GrammarRound:
    """The grammars of the rows of one round.

    rows: in the round
    masks: so far, by position  # int32 [rows, words], on the CPU
    forced: of each row, position by position, whether its grammar allowed one token alone
    drafts: of the round, by row, where the grammars have made them: forced tokens, and none of other rows; None: the drafter has

    Args:
        grammars: of the rows; None: any token.
        vocab_size: of the target.
        memory: that masks are made in, where it lies well for copies  # int32 [positions, rows or more, words]
        drafts: see above.
    """

    def __init__(
        self,
        grammars: Sequence[Grammar | None],
        vocab_size: int,
        memory: Tensor | None = None,
        drafts: Sequence[Sequence[int]] | None = None,
    ) -> None:
        self.masks: list[Tensor] = []
        self.forced: list[list[bool]] = [[] for _ in grammars]
        self.drafts = drafts
        self._memory = memory
        self._words = mask_words(vocab_size)
        self.rows = len(grammars)
        self._following = {row: grammar for row, grammar in enumerate(grammars) if grammar is not None}
        for grammar in self._following.values():
            grammar.back()

    def forced_runs(self, most: int) -> list[list[int]]:
        """Of each row the tokens that its grammar forces next, up to so many, before any mask is made."""
        rows = [self._following.get(row) for row in range(self.rows)]
        return [[] if grammar is None else list(grammar.forced(most)) for grammar in rows]

    def fill(self, count: int, drafts: Sequence[Sequence[int]]) -> None:
        """Makes what is missing of the masks of the round's first positions.

        Args:
            count: positions.
            drafts: of each row, those before the last of the positions; fewer where it has no more.
        """
        while len(self.masks) < count:
            if self.masks:
                last = len(self.masks) - 1
                self._following = {
                    row: grammar
                    for row, grammar in self._following.items()
                    if last < len(drafts[row]) and grammar.look_ahead(drafts[row][last])
                }
            self.masks.append(self._mask())
            for forced, alone in zip(self.forced, _allow_one(self.masks[-1]), strict=True):
                forced.append(alone)

    def _mask(self) -> Tensor:
        """Behind a draft that the target cannot take, or behind a row's end, anything may stand: it will not be kept."""
        if self._memory is None:
            mask = torch.empty(self.rows, self._words, dtype=torch.int32)
        else:
            mask = self._memory[len(self.masks), : self.rows]
        # PyTorch would fill it with all cores, and its threads then wait beside those that make masks.
        every = mask.numpy()
        for row in range(self.rows):
            if row not in self._following:
                every[row] = -1
        kinds: dict[type[Grammar], list[tuple[Grammar, int]]] = {}
        for row, grammar in self._following.items():
            kinds.setdefault(type(grammar), []).append((grammar, row))
        for kind, grammars in kinds.items():
            kind.fill_rows(grammars, mask)
        return mask


def _allow_one(mask: Tensor) -> list[bool]:
    """Of each row, whether its mask has one bit alone.  # int32 [rows, words]"""
    words = mask.numpy()
    some = words != 0
    only = words[np.arange(len(words)), some.argmax(1)].astype(np.int64) & 0xFFFF_FFFF
    alone = (np.count_nonzero(some, axis=1) == 1) & (only & (only - 1) == 0)
    found: list[bool] = alone.tolist()
    return found


def forbid(scores: Tensor, mask: Tensor) -> Tensor:
    """Scores with -inf where a mask has no bit.

    Args:
        scores: written in place  # float32 [rows, n, vocab]
        mask: int32 [rows, n, words]
    """
    bits = torch.arange(BITS, dtype=torch.int32, device=mask.device)
    allowed = ((mask[..., None] >> bits) & 1).bool().flatten(-2)[..., : scores.shape[-1]]
    return scores.masked_fill_(~allowed, -torch.inf)
