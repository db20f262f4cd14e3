"""Which figures a run has: the numbers, a title and a sentence for each; and of those it has not, why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from specbatch.formatting import by_count, format_duration, format_percent
from specbatch.results.latency import edge, percentile
from specbatch.results.report.charts_over_time import gpu_memory, k_over_time, throughput
from specbatch.results.report.cycle import cycle_chart
from specbatch.results.report.facts import RunFacts
from specbatch.results.report.figures import COLOURS, Chart, row_height, rows, share_bars
from specbatch.results.report.series import median

_BINS = 28
_FEWEST_ROWS = 10  # of which percentiles say something


@dataclass(slots=True)
class Charts:
    """The figures that the run has data for, and (title, why not) of the others."""

    drawn: list[Chart] = field(default_factory=list)
    missing: list[tuple[str, str]] = field(default_factory=list)


def make_charts(facts: RunFacts) -> Charts:
    """Every figure that a report knows, drawn or explained."""
    makers = {
        "Throughput over time": throughput,
        "k over time": k_over_time,
        "Row latency": _latency,
        "Acceptance by position": _acceptance,
        "Accepted length": _accepted_lengths,
        "Prompt and output lengths": _lengths,
        "Where the time went": _time_split,
        "What each GPU does": cycle_chart,
        "GPU memory over time": gpu_memory,
        "Finish reasons": _finish_reasons,
        "Errors by code": _errors,
    }
    charts = Charts()
    for title, maker in makers.items():
        made = maker(facts)
        if isinstance(made, Chart):
            charts.drawn.append(made)
        else:
            charts.missing.append((title, made))
    return charts


def _acceptance(facts: RunFacts) -> Chart | str:
    pairs = list(zip(facts.summary.accepted_by_position, facts.summary.drafted_by_position, strict=False))
    kept = [(f"{position}", accepted / drafted) for position, (accepted, drafted) in enumerate(pairs, 1) if drafted]
    if not kept:
        return facts.summary.no_drafts
    caption = f"Of all tokens drafted at position 1, {format_percent(kept[0][1])} were kept"
    if len(kept) > 1:
        caption += f"; at position {kept[-1][0]}, {format_percent(kept[-1][1])}"

    def draw(axes: Any) -> None:
        share_bars(axes, kept, "position in the draft", "share accepted", 1.12)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1])

    return Chart("acceptance_by_position", "Acceptance by position", caption + ".", draw)


def accepted_length_counts(facts: RunFacts) -> list[int]:
    """[n]: how often a row kept exactly n drafted tokens in a round."""
    summary = facts.summary
    at_least = [summary.row_rounds, *summary.accepted_by_position]
    return [here - after for here, after in pairwise([*at_least, 0])]


def _accepted_lengths(facts: RunFacts) -> Chart | str:
    counts = accepted_length_counts(facts)
    total = sum(counts)
    if not facts.summary.drafted or total <= 0:
        return facts.summary.no_drafts
    shares = [(f"{length}", count / total) for length, count in enumerate(counts)]

    def draw(axes: Any) -> None:
        top = 1.15 * max(share for _, share in shares)
        share_bars(axes, shares, "drafted tokens kept in a round", "share of rounds", top)

    caption = f"With the target's own token, a row gains {facts.summary.mean_acceptance_length:.2f} tokens a round."
    return Chart("accepted_lengths", "Accepted length", caption, draw)


def _time_split(facts: RunFacts) -> Chart | str:
    seconds = facts.summary.phase_seconds
    total = sum(seconds.values())
    if total <= 0:
        return "no time was counted"
    # All phases, also those that took next to nothing: that idle is small is worth seeing.
    shares = sorted(((phase, spent / total) for phase, spent in seconds.items()), key=lambda item: -item[1])

    def draw(axes: Any) -> None:
        rows(axes, shares, [format_percent(share) for _, share in shares], COLOURS["accent"])

    caption = f"{shares[0][0]} took the most: {format_percent(shares[0][1])} of the engine's time."
    return Chart("time_split", "Where the time went", caption.capitalize(), draw, row_height(len(shares)))


def _lengths(facts: RunFacts) -> Chart | str:
    if not facts.prompt_lengths:
        return "no row has been decoded yet"
    series = [("prompt", facts.prompt_lengths, "second"), ("output", facts.completion_lengths, "accent")]
    top = max(max(lengths) for _, lengths, _ in series)
    step = max(1, -(-(top + 1) // _BINS))

    def draw(axes: Any) -> None:
        import numpy as np  # noqa: PLC0415 - comes with matplotlib

        edges = range(0, top + step + 1, step)
        for label, lengths, colour in series:
            counts, _ = np.histogram(list(lengths), edges, weights=list(lengths.values()))
            axes.stairs(counts, edges, fill=True, color=COLOURS[colour], alpha=0.25)
            axes.stairs(counts, edges, color=COLOURS[colour], linewidth=1.4, label=label)
        axes.set_xlim(0, edges[-1])
        axes.set_ylim(0, 1.3 * axes.dataLim.y1)  # room for the legend
        axes.set_xlabel("tokens")
        axes.set_ylabel("rows")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.legend(loc="upper right")

    caption = " ".join(
        f"{label.capitalize()}s: {median(lengths):,} tokens in the middle, {max(lengths):,} at most."
        for label, lengths, _ in series
    )
    return Chart("lengths", "Prompt and output lengths", caption, draw)


def _latency(facts: RunFacts) -> Chart | str:
    counts = facts.summary.row_latency
    if not counts:
        return "it was not recorded, or no row was answered"
    if sum(counts.values()) < _FEWEST_ROWS:
        return f"fewer than {_FEWEST_ROWS} rows were answered"
    p50, p90, p99 = (percentile(counts, share) for share in (0.5, 0.9, 0.99))
    keys = [int(key) for key in counts]

    def draw(axes: Any) -> None:
        numbers = range(min(keys), max(keys) + 1)
        edges = [edge(number) for number in [*numbers, max(keys) + 1]]
        rows = [counts.get(str(number), 0) for number in numbers]
        axes.stairs(rows, edges, fill=True, color=COLOURS["accent"], alpha=0.25)
        axes.stairs(rows, edges, color=COLOURS["accent"], linewidth=1.4)
        axes.set_xscale("log")
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(0, 1.6 * max(rows))
        for step, (label, value) in enumerate((("p50", p50), ("p90", p90), ("p99", p99))):
            axes.axvline(value, color=COLOURS["muted"], linewidth=1, linestyle=(0, (4, 3)))
            right = value * value > edges[0] * edges[-1]  # of the middle: the label goes to the left
            axes.annotate(
                label, (value, 1), (-3 if right else 3, -2 - 12 * step), xycoords=("data", "axes fraction"),
                textcoords="offset points", ha="right" if right else "left", va="top", color=COLOURS["muted"],
            )  # fmt: skip
        axes.set_xlabel("seconds from a free slot to the last token")
        axes.set_ylabel("rows")
        ticks = _log_ticks(edges[0], edges[-1])
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.yaxis.get_major_locator().set_params(integer=True)

    caption = (
        f"Half of the rows took at most {format_duration(p50)}, 90% {format_duration(p90)}, 99% {format_duration(p99)}; "
        "what they waited for a slot is not in it."
    )
    return Chart("row_latency", "Row latency", caption, draw)


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, ... between two times; both ends where they are too near for that."""
    tens = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1,) if high > 1000 * low else (1, 2, 5)
    found = [float(f"{step}e{ten}") for ten in tens for step in steps]
    inside = [tick for tick in found if low <= tick <= high]
    return inside if len(inside) > 1 else [float(f"{tick:.2g}") for tick in (low, high)]


def _finish_reasons(facts: RunFacts) -> Chart | str:
    if not facts.totals.results:
        return "no row has been decoded yet"
    known = {"stop": "ended by themselves or at a stop string", "length": "were cut off at their limit of tokens"}
    counts, total = facts.totals.finish_reasons, facts.totals.results
    parts = [f"{format_percent(counts[reason] / total)} {text}" for reason, text in known.items() if reason in counts]
    caption = f"Of the rows, {', '.join(parts)}." if parts else ""
    return _count_chart("finish_reasons", "Finish reasons", caption, counts, "accent")


def _errors(facts: RunFacts) -> Chart | str:
    if not facts.totals.errors:
        return "no row ended in the errors file"
    caption = f"{facts.totals.errors:,} of {facts.totals.rows:,} rows ended in the errors file."
    return _count_chart("errors_by_code", "Errors by code", caption, facts.totals.errors_by_code, "bad")


def _count_chart(stem: str, title: str, caption: str, counts: Mapping[str, int], colour: str) -> Chart:
    items = by_count(counts)

    def draw(axes: Any) -> None:
        rows(axes, items, [f"{count:,}" for _, count in items], COLOURS[colour])

    return Chart(stem, title, caption, draw, row_height(len(items)))
