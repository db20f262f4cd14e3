"""Texts of command lines as values."""

from __future__ import annotations

from specbatch.engine.request import SamplingParams


def integers(text: str) -> list[int]:
    """`1,32` as numbers."""
    return [int(part) for part in text.split(",")]


def sampling(text: str) -> SamplingParams:
    """`0.6,0.95,0` as temperature, top-p and top-k."""
    temperature, top_p, top_k = text.split(",")
    return SamplingParams(float(temperature), int(top_k), float(top_p))


def floats(text: str) -> list[float]:
    """`0.3,0.8` as numbers."""
    return [float(part) for part in text.split(",")]


def choices_of_k(text: str) -> list[int | None]:
    """`auto,0,4` as choices of k; None is auto."""
    return [None if part == "auto" else int(part) for part in text.split(",")]
