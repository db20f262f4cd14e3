"""Rows whose tokens a grammar allows: what the engine asks of one, and its masks along the drafts of a round.

The target's tokens are masked, and so are the drafts: what the grammar forbids is never drafted, and a text is the one of the masked target
alone. The masks come from the host, which has to know the drafts before a position: rounds with such rows are not launched ahead
(`ModelRunner.depth`), and the host waits for each of their drafts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

BITS = 32  # tokens in one number of a mask


class Grammar(Protocol):
    """Where one row stands in its grammar. It has taken in the row's tokens, and may look ahead along drafts.

    error: why no token can follow; "" as long as some can
    """

    error: str

    def fill(self, mask: Tensor) -> None:
        """Sets the bits of the tokens that may come next, behind what was looked ahead.  # int32 [words], on the CPU"""
        ...

    def look_ahead(self, token: int) -> bool:
        """Takes in a draft, if it may come next; whether it may and further tokens can follow."""
        ...

    def back(self) -> None:
        """Forgets the drafts."""
        ...

    def commit(self, tokens: Sequence[int]) -> None:
        """Forgets the drafts, and takes in tokens of the row."""
        ...


def mask_words(vocab_size: int) -> int:
    """Numbers of a mask."""
    return -(-vocab_size // BITS)


class GrammarRound:
    """The grammars of the rows of one round.

    Args:
        grammars: of the rows; None: any token.
        vocab_size: of the target.
        slots: of the rows.
    """

    def __init__(self, grammars: Sequence[Grammar | None], vocab_size: int, slots: Sequence[int] = ()) -> None:
        self.slots = slots
        self._grammars = grammars
        self._words = mask_words(vocab_size)
        self._masks: list[Tensor] = []  # by position, [rows, words]
        self._follows = [grammar is not None for grammar in grammars]
        for grammar in grammars:
            if grammar is not None:
                grammar.back()

    def masks(self, drafts: Sequence[Sequence[int]], first: int, count: int) -> Tensor:
        """What may stand at positions of the round.

        Args:
            drafts: of each row, at least those before the last position.
            first: position, from 0.
            count: positions.

        Returns:
            int32 [rows, count, words], on the CPU
        """
        while len(self._masks) < first + count:
            if self._masks:
                self._take([row[len(self._masks) - 1] for row in drafts])
            self._masks.append(self._fill())
        return torch.stack(self._masks[first : first + count], 1)

    def _take(self, tokens: Sequence[int]) -> None:
        for row, (grammar, token) in enumerate(zip(self._grammars, tokens, strict=True)):
            if grammar is not None and self._follows[row]:
                self._follows[row] = grammar.look_ahead(token)

    def _fill(self) -> Tensor:
        """Behind a draft that the target cannot take, or behind a row's end, anything may stand: it will not be kept."""
        mask = torch.full((len(self._grammars), self._words), -1, dtype=torch.int32)
        for row, grammar in enumerate(self._grammars):
            if grammar is not None and self._follows[row]:
                grammar.fill(mask[row])
        return mask


def forbid(scores: Tensor, mask: Tensor) -> Tensor:
    """Scores with -inf where a mask has no bit.

    Args:
        scores: written in place  # float32 [rows, n, vocab]
        mask: int32 [rows, n, words]
    """
    bits = torch.arange(BITS, dtype=torch.int32, device=mask.device)
    allowed = ((mask[..., None] >> bits) & 1).bool().flatten(-2)[..., : scores.shape[-1]]
    return scores.masked_fill_(~allowed, -torch.inf)
