"""Matches paths with glob patterns, as `datasets` and shells with globstar do."""

from __future__ import annotations

import re
from functools import lru_cache

_PARTS = re.compile(r"\*\*/|\*\*|\*|\?|\[!?[^\]]+\]|\{[^{}]*\}|.", re.DOTALL)
_MEANINGS = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def matches(name: str, pattern: str) -> bool:
    """Whether a path matches: `*` within a folder, `**` over folders, `[a-z]`, `{a,b}`."""
    return _compiled(pattern).fullmatch(name) is not None


@lru_cache(maxsize=64)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile("".join(_meaning(part[0]) for part in _PARTS.finditer(pattern)), re.DOTALL)


def _meaning(part: str) -> str:
    if part in _MEANINGS:
        return _MEANINGS[part]
    if part.startswith("[") and len(part) > 1:
        return f"[^{part[2:]}" if part[1] == "!" else part
    if part.startswith("{") and len(part) > 1:
        return "(?:" + "|".join(re.escape(one) for one in part[1:-1].split(",")) + ")"
    return re.escape(part)
