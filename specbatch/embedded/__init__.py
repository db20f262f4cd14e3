"""The pair that comes with the package: `embedded:target` and `embedded:drafter` (MODEL_CARD.md says what they are)."""

from __future__ import annotations

from pathlib import Path


def path(name: str) -> Path:
    """The folder of "target" or "drafter"; KeyError for any other name."""
    if name not in {"target", "drafter"}:
        raise KeyError(name)
    return Path(__file__).parent / name
