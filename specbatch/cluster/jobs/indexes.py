"""Completion indexes as a Job's status writes them: "0,2-5,9"."""

from __future__ import annotations

from collections.abc import Iterable


def parse_indexes(text: str | None) -> list[int]:
    """The numbers of "0,2-5,9", ascending; none of an empty text."""
    found: list[int] = []
    for part in (text or "").split(","):
        first, _, last = part.partition("-")
        if first.strip():
            found.extend(range(int(first), int(last or first) + 1))
    return sorted(found)


def format_indexes(indexes: Iterable[int]) -> str:
    """The shortest text for these indexes: "0,2-5,9"."""
    runs: list[tuple[int, int]] = []
    for index in sorted(set(indexes)):
        if runs and index == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], index)
        else:
            runs.append((index, index))
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
