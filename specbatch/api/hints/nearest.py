"""The known name nearest to a misspelt one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The known name that `word` most likely means, or None where nothing is near.

    Case, `_`, `-` and spaces do not count: max_new_tokens is maxNewTokens, multi-gpu-ratio is multi_gpu_ratio.
    """
    plain_names = {plain(name): name for name in known}
    found = difflib.get_close_matches(plain(word[:200]), plain_names, n=1, cutoff=cutoff)
    return plain_names[found[0]] if found else None


def is_same(word: str, name: str) -> bool:
    """Whether a name is only spelt in another way."""
    return plain(word) == plain(name)


def plain(word: str) -> str:
    """A name without case, `_`, `-` and spaces."""
    return re.sub(r"[-_\s]", "", word).lower()
