"""What rounds gave, with what was predicted of them beside each figure: for the tables of placements."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.gpu_lines import Line

COLUMNS = ("steady", "predicted", "ms a round", "predicted", "off", "busy", "predicted")


def steady(line: Line, replicas: int = 1) -> float:
    """Tokens a second of rounds alone, without prefill; of replicas, whose line has the rows of all, all of them."""
    return replicas * _tokens(line, replicas) / max(line.round_ms, 1e-9)


def cells(line: Line, replicas: int = 1) -> list[str]:
    """A line under COLUMNS; "-" where nothing is predicted: of the general engine."""
    predicted = line.predicted_ms
    tokens, rounds, off = "-", "-", "-"
    if predicted:
        tokens = f"{replicas * _tokens(line, replicas) / predicted:,.0f}"
        rounds, off = f"{predicted:.2f}", f"{line.round_ms / predicted - 1:+.0%}"
    measured = f"{steady(line, replicas):,.0f}", tokens, f"{line.round_ms:.2f}", rounds, off
    return [*measured, _shares(line.busy), _shares(line.predicted_busy)]


def _tokens(line: Line, replicas: int) -> float:
    """Of a round, times 1000: as many as its group of rows gained."""
    return 1e3 * line.rows / replicas / line.groups * line.accepted_length


def _shares(busy: Mapping[str, float]) -> str:
    return " ".join(f"{busy[device]:.0%}" for device in sorted(busy)) or "-"
