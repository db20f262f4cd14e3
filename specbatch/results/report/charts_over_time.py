"""The figures with time on their axis: throughput and k, over all attempts and shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from specbatch.results.report.facts import RunFacts
from specbatch.results.report.figures import COLOURS, Chart
from specbatch.results.report.series import joined, rates, restarts, time_unit

_TALLEST_LINE = 5.0  # times the best speed
_RESTARTS_DRAWN = 12
_GIB = 1024  # MiB
_FEWEST_POINTS = 4  # fewer draw no curve
_TOO_SHORT = "it was decoded too quickly for a curve, or nothing was decoded"


def throughput(facts: RunFacts) -> Chart | str:
    """Tokens per second of all shards together."""
    points = rates([joined(attempts) for attempts in facts.attempts])
    if len(points) < _FEWEST_POINTS:
        return _TOO_SHORT
    summary = facts.summary
    best = max(rate for _, rate in points)
    # The target alone is measured on one machine: it cannot be compared with many shards at once.
    alone = facts.speedup.target_only_tokens_per_second if facts.speedup and len(facts.attempts) == 1 else None
    known = [("predicted ceiling", summary.predicted_tokens_per_second), ("target alone", alone)]
    # A line far above would flatten the curve it is there to compare with; the caption has the number all the same.
    lines = [(label, value) for label, value in known if value is not None and value <= _TALLEST_LINE * best]
    breaks = _breaks(facts)
    unit, name = time_unit(points[-1][0])

    def draw(axes: Any) -> None:
        xs, ys = [t / unit for t, _ in points], [rate for _, rate in points]
        xs, ys = [0.0, *xs], [ys[0], *ys]
        axes.fill_between(xs, ys, color=COLOURS["accent"], alpha=0.12, linewidth=0)
        axes.plot(xs, ys, color=COLOURS["accent"], linewidth=1.6)
        for label, value in lines:
            _level(axes, label, value)
        _mark(axes, breaks, unit)
        axes.set_xlim(0, xs[-1])
        axes.set_ylim(0, 1.12 * max([best, *(value for _, value in lines)]) or 1)
        axes.set_xlabel(f"{name} of decoding")
        axes.set_ylabel("tokens/s")
        axes.yaxis.set_major_formatter("{x:,.0f}")

    caption = f"{summary.tokens_per_second:,.1f} tokens/s on average"
    if summary.fraction_of_ceiling is not None:
        caption += f", {summary.fraction_of_ceiling:.0%} of the predicted ceiling"
    return Chart("throughput", "Throughput over time", f"{caption}.{_said(breaks)}", draw)


def k_over_time(facts: RunFacts) -> Chart | str:
    """num_speculative_tokens, one line a shard."""
    if not facts.summary.drafted:
        return facts.summary.no_drafts
    # Before its first round a run has no k.
    lines = [[sample for sample in joined(attempts) if sample.completion_tokens] for attempts in facts.attempts]
    lines = [line for line in lines if len(line) >= _FEWEST_POINTS]
    if not lines:
        return _TOO_SHORT
    seen = Counter(sample.k for line in lines for sample in line)
    top, end = max(seen), max(line[-1].t for line in lines)
    unit, name = time_unit(end)
    breaks = _breaks(facts)

    def draw(axes: Any) -> None:
        for line in lines:
            axes.step(
                [sample.t / unit for sample in line], [sample.k for sample in line], where="post",
                color=COLOURS["accent"], linewidth=1.6, alpha=_alpha(lines),
            )  # fmt: skip
        _mark(axes, breaks, unit)
        axes.set_ylim(-0.2, top + 0.6)
        axes.set_yticks(range(0, top + 1, max(1, top // 8)))
        axes.set_xlim(0, end / unit)
        axes.set_xlabel(f"{name} of decoding")
        axes.set_ylabel("tokens drafted (k)")

    caption = f"Mostly {seen.most_common(1)[0][0]} drafted tokens a round.{_said(breaks)}"
    return Chart("k_over_time", "k over time", caption, draw)


def gpu_memory(facts: RunFacts) -> Chart | str:
    """What PyTorch holds of each GPU, one line each."""
    lines = [
        [(sample.t, sample.gpu_mib[gpu] / _GIB) for sample in line if len(sample.gpu_mib) > gpu]
        for line in map(joined, facts.attempts)
        for gpu in range(max((len(sample.gpu_mib) for sample in line), default=0))
    ]
    lines = [line for line in lines if len(line) >= _FEWEST_POINTS and any(held for _, held in line)]
    if not lines:
        return "no GPU was used, or it was not recorded"
    most, end = max(held for line in lines for _, held in line), max(line[-1][0] for line in lines)
    sizes = {size for one in facts.manifests if one.hardware for size in one.hardware.gpu_bytes.values()}
    room = max(sizes) / 2**30 if sizes else None
    unit, name = time_unit(end)
    breaks = _breaks(facts)

    def draw(axes: Any) -> None:
        for line in lines:
            axes.plot(
                [t / unit for t, _ in line], [held for _, held in line], color=COLOURS["accent"], linewidth=1.6,
                alpha=_alpha(lines),
            )  # fmt: skip
        if room is not None:
            _level(axes, "memory of a GPU", room)
        _mark(axes, breaks, unit)
        axes.set_xlim(0, end / unit)
        axes.set_ylim(0, 1.15 * max(most, room or 0.0))
        axes.set_xlabel(f"{name} of decoding")
        axes.set_ylabel("GiB")

    held = f"At most {most:.1f} GiB" + (f" of {room:.1f}" if room is not None else "")
    each = "" if len(lines) == 1 else ", a line for each GPU"
    caption = f"{held} are in PyTorch's hands{each}: weights, keys and values, graphs. What the driver takes for itself is not in it."
    return Chart("gpu_memory", "GPU memory over time", f"{caption}{_said(breaks)}", draw)


def _alpha(lines: Sequence[object]) -> float:
    """Many lines are lighter each."""
    return float(max(0.4, len(lines) ** -0.25))


def _level(axes: Any, label: str, value: float) -> None:
    """A dashed line across."""
    axes.axhline(value, color=COLOURS["muted"], linewidth=1, linestyle=(0, (4, 3)))
    axes.annotate(
        label, (1, value), (0, 3), xycoords=("axes fraction", "data"), textcoords="offset points", ha="right",
        color=COLOURS["muted"],
    )  # fmt: skip


def _breaks(facts: RunFacts) -> list[float]:
    """When restarts were; none where there are several shards, or too many restarts to see."""
    found = restarts(facts.attempts[0]) if len(facts.attempts) == 1 else []
    return found if len(found) <= _RESTARTS_DRAWN else []


def _mark(axes: Any, breaks: list[float], unit: float) -> None:
    for t in breaks:
        axes.axvline(t / unit, color=COLOURS["muted"], linewidth=1, linestyle=(0, (1, 2)))


def _said(breaks: list[float]) -> str:
    return " Dotted: a restart." if len(breaks) == 1 else " Dotted: restarts." if breaks else ""
