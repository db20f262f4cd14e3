"""How much of a dataset's prompts stands at the beginning of another row's prompt, too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from specbatch.engine.prefix import PAGE, prefix_keys


@dataclass(slots=True)
class SharedPrompts:
    """Counts tokens of prompts, and those of them that an engine need not compute again.

    tokens: of all prompts, of a row that wants n completions n times
    shared: in whole pages, that an earlier row begins with
    """

    tokens: int = 0
    shared: int = 0
    _seen: set[bytes] = field(default_factory=set)

    def add(self, prompt: Sequence[int], completions: int) -> None:
        """Counts a row."""
        keys = prefix_keys(prompt, PAGE)
        known = next((place for place, key in enumerate(keys) if key not in self._seen), len(keys))
        self._seen.update(keys[known:])
        self.tokens += completions * len(prompt)
        self.shared += PAGE * (known + (completions - 1) * len(keys))
