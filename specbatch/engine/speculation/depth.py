"""How many tokens a round may draft."""

from __future__ import annotations

from dataclasses import dataclass

MOST_FORCED = 8  # tokens a row that grammars draft for a round


@dataclass(frozen=True, slots=True)
class Speculation:
    """Always the same k, or before each round the k up to max_k that pays best.

    max_k: of any round; 0 drafts nothing
    is_adaptive: whether a controller chooses k in 0 .. max_k; else every round drafts max_k tokens
    """

    max_k: int
    is_adaptive: bool

    @classmethod
    def fixed(cls, k: int) -> Speculation:
        """Every round drafts k tokens."""
        return cls(k, is_adaptive=False)

    @classmethod
    def adaptive(cls, max_k: int) -> Speculation:
        """A controller chooses k from measured costs and acceptance, up to max_k."""
        return cls(max_k, is_adaptive=True)

    def choices(self, most: int) -> list[int]:
        """The k that rounds may be launched with where `most` is the largest, that one first; 0 is always among them."""
        return list(range(most, -1, -1)) if self.is_adaptive else sorted({0, most}, reverse=True)
