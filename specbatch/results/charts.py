"""Which figures a run has: the numbers, a title and a sentence for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from specbatch.results.facts import RunFacts
from specbatch.results.figures import COLOURS, Chart, bars, row_height, rows
from specbatch.results.series import binned, joined, median, rates
from specbatch.results.summary import time_shares

_BINS = 28
_TALLEST_LINE = 5.0  # times the best speed


def make_charts(facts: RunFacts) -> list[Chart]:
    """The figures that the run has data for."""
    makers = (_throughput, _acceptance, _accepted_lengths, _k, _time_split, _lengths, _finish_reasons, _errors)
    return [chart for maker in makers if (chart := maker(facts)) is not None]


def _throughput(facts: RunFacts) -> Chart | None:
    points = rates([joined(attempts) for attempts in facts.attempts])
    if len(points) < 2:
        return None
    summary = facts.summary
    best = max(rate for _, rate in points)
    known = [
        ("predicted ceiling", summary.predicted_tokens_per_second),
        ("target alone", summary.target_only_tokens_per_second),
    ]
    # A line far above would flatten the curve it is there to compare; the caption says it all the same.
    lines = [(label, value) for label, value in known if value is not None and value <= _TALLEST_LINE * best]

    def draw(axes: Any) -> None:
        xs, ys = [t for t, _ in points], [rate for _, rate in points]
        axes.fill_between(xs, ys, color=COLOURS["accent"], alpha=0.12, linewidth=0)
        axes.plot(xs, ys, color=COLOURS["accent"], linewidth=1.6)
        for label, value in lines:
            axes.axhline(value, color=COLOURS["muted"], linewidth=1, linestyle=(0, (4, 3)))
            axes.annotate(
                label,
                (1, value),
                (0, 3),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                ha="right",
                color=COLOURS["muted"],
            )
        axes.set_xlim(0, xs[-1])
        axes.set_ylim(0, 1.12 * max([best, *(value for _, value in lines)]))
        axes.set_xlabel("seconds of decoding")
        axes.set_ylabel("tokens/s")
        axes.yaxis.set_major_formatter("{x:,.0f}")

    caption = f"{summary.tokens_per_second:,.1f} tokens/s on average"
    if summary.fraction_of_ceiling is not None:
        caption += f", {summary.fraction_of_ceiling:.0%} of the predicted ceiling"
    return Chart("throughput", "Throughput over time", caption + ".", draw)


def _acceptance(facts: RunFacts) -> Chart | None:
    pairs = list(zip(facts.summary.accepted_by_position, facts.summary.drafted_by_position, strict=False))
    kept = [(f"{position}", accepted / drafted) for position, (accepted, drafted) in enumerate(pairs, 1) if drafted]
    if not kept:
        return None
    caption = f"Of all tokens drafted at position 1, {kept[0][1]:.0%} were kept"
    if len(kept) > 1:
        caption += f"; at position {kept[-1][0]}, {kept[-1][1]:.0%}"

    def draw(axes: Any) -> None:
        bars(axes, kept, "position in the draft", "share accepted", [f"{rate:.0%}" for _, rate in kept])
        axes.set_ylim(0, 1.05)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")

    return Chart("acceptance_by_position", "Acceptance by position", caption + ".", draw)


def accepted_length_counts(facts: RunFacts) -> list[int]:
    """[n]: how often a row kept exactly n drafted tokens in a round."""
    summary = facts.summary
    at_least = [summary.row_rounds, *summary.accepted_by_position]
    return [here - after for here, after in pairwise([*at_least, 0])]


def _accepted_lengths(facts: RunFacts) -> Chart | None:
    counts = accepted_length_counts(facts)
    total = sum(counts)
    if not facts.summary.drafted or total <= 0:
        return None
    shares = [(f"{length}", count / total) for length, count in enumerate(counts)]

    def draw(axes: Any) -> None:
        bars(axes, shares, "drafted tokens kept in a round", "share of rounds", [f"{share:.0%}" for _, share in shares])
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.set_ylim(0, 1.15 * max(share for _, share in shares))

    caption = f"With the target's own token, a row gains {facts.summary.mean_acceptance_length:.2f} tokens a round."
    return Chart("accepted_lengths", "Accepted length", caption, draw)


def _k(facts: RunFacts) -> Chart | None:
    lines = [line for attempts in facts.attempts if len(line := joined(attempts)) > 1]
    if not facts.summary.drafted or not lines:
        return None
    seen = Counter(sample.k for line in lines for sample in line)
    top = max(seen)

    def draw(axes: Any) -> None:
        for line in lines:
            axes.step(
                [sample.t for sample in line],
                [sample.k for sample in line],
                where="post",
                color=COLOURS["accent"],
                linewidth=1.6,
                alpha=1 if len(lines) == 1 else 0.5,
            )
        axes.set_ylim(-0.2, top + 0.6)
        axes.set_yticks(range(0, top + 1, max(1, top // 8)))
        axes.set_xlim(0, max(line[-1].t for line in lines))
        axes.set_xlabel("seconds of decoding")
        axes.set_ylabel("tokens drafted (k)")

    return Chart("k_over_time", "k over time", f"Mostly {seen.most_common(1)[0][0]} drafted tokens a round.", draw)


def _time_split(facts: RunFacts) -> Chart | None:
    shares = time_shares(facts.summary)
    if not shares:
        return None

    def draw(axes: Any) -> None:
        rows(axes, shares, [f"{share:.0%}" for _, share in shares], COLOURS["accent"])

    caption = f"{shares[0][0]} took the most: {shares[0][1]:.0%} of the engine's time."
    return Chart("time_split", "Where the time went", caption.capitalize(), draw, row_height(len(shares)))


def _lengths(facts: RunFacts) -> Chart | None:
    if not facts.prompt_lengths:
        return None
    series = [("prompt", facts.prompt_lengths, "second"), ("output", facts.completion_lengths, "accent")]
    top = max(max(lengths) for _, lengths, _ in series)
    step = max(1, -(-(top + 1) // _BINS))

    def draw(axes: Any) -> None:
        edges = list(range(0, top + step + 1, step))
        for label, lengths, colour in series:
            counts = binned(lengths, step, len(edges) - 1)
            axes.stairs(counts, edges, fill=True, color=COLOURS[colour], alpha=0.25)
            axes.stairs(counts, edges, color=COLOURS[colour], linewidth=1.4, label=label)
        axes.set_xlim(0, edges[-1])
        axes.set_ylim(0, None)
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


def _finish_reasons(facts: RunFacts) -> Chart | None:
    if not facts.totals.results:
        return None
    captions = {"stop": "ended by themselves or at a stop string", "length": "were cut off at maxNewTokens"}
    counts = facts.totals.finish_reasons
    said = [
        f"{counts[reason] / facts.totals.results:.0%} {text}" for reason, text in captions.items() if reason in counts
    ]
    return _count_chart(
        "finish_reasons", "Finish reasons", "Of the rows, " + ", ".join(said) + "." if said else "", counts, "accent"
    )


def _errors(facts: RunFacts) -> Chart | None:
    if not facts.totals.errors:
        return None
    caption = f"{facts.totals.errors:,} of {facts.totals.rows:,} rows ended in the errors file."
    return _count_chart("errors_by_code", "Errors by code", caption, facts.totals.errors_by_code, "bad")


def _count_chart(stem: str, title: str, caption: str, counts: Mapping[str, int], colour: str) -> Chart:
    items = sorted(counts.items(), key=lambda item: (-item[1], item[0]))

    def draw(axes: Any) -> None:
        rows(axes, items, [f"{count:,}" for _, count in items], COLOURS[colour])

    return Chart(stem, title, caption, draw, row_height(len(items)))
