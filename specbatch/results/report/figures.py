"""Drawing: each figure twice, as SVG whose colours follow the page (light, dark), and as PNG on white.

matplotlib is imported on first use, without a display: importing this module costs nothing.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specbatch.results.storage.durable import make_directory, write_atomic

_SIZE = (4.6, 2.4)  # inches; some 330 points wide, so that its text stays readable on a phone
_PNG_DPI = 200

# In an SVG each is replaced by the page's own colour of that name (report.css).
COLOURS = {
    "ink": "#1c2330",
    "muted": "#667085",
    "grid": "#e3e7ee",
    "accent": "#2563eb",
    "second": "#d97706",
    "bad": "#c62828",
}
_RC = {
    "axes.axisbelow": True,
    "axes.edgecolor": COLOURS["muted"],
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelcolor": COLOURS["muted"],
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": COLOURS["ink"],
    "axes.titlelocation": "left",
    "font.size": 9.5,
    "grid.color": COLOURS["grid"],
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.labelcolor": COLOURS["ink"],
    "svg.fonttype": "none",
    "svg.hashsalt": "specbatch",
    "text.color": COLOURS["ink"],
    "text.parse_math": False,
    "xtick.color": COLOURS["muted"],
    "ytick.color": COLOURS["muted"],
    "ytick.left": False,
}


@dataclass(frozen=True, slots=True)
class Chart:
    """A figure: its file's stem, its title, a sentence about it, and how to draw it on axes."""

    stem: str
    title: str
    caption: str
    draw: Callable[[Any], None]
    height: float = _SIZE[1]


def render_charts(charts: Sequence[Chart], folder: Path) -> dict[str, str]:
    """Writes folder/<stem>.png for each; gives stem -> SVG element for a page.

    Raises:
        ResultsError: a file cannot be written.
    """
    if not charts:
        return {}
    import matplotlib as mpl  # noqa: PLC0415  # a third of a second that only reports pay
    from matplotlib.figure import Figure  # noqa: PLC0415  # as above; without pyplot no display is touched

    make_directory(folder)
    elements = {}
    with mpl.rc_context({**mpl.rcParamsDefault, **_RC}):
        for chart in charts:
            figure = Figure(figsize=(_SIZE[0], chart.height), layout="constrained")
            axes = figure.add_subplot()
            chart.draw(axes)
            svg = io.StringIO()
            figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
            elements[chart.stem] = _themed(svg.getvalue(), f"{chart.title}. {chart.caption}")
            axes.set_title(chart.title)
            png = io.BytesIO()
            figure.savefig(png, format="png", dpi=_PNG_DPI, facecolor="white")
            write_atomic(folder / f"{chart.stem}.png", png.getvalue(), durable=False)
    return elements


def _themed(document: str, label: str) -> str:
    """The <svg> element of a document, with colours by CSS variable and no fixed size or font."""
    element = document[document.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    element = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", element, count=1)
    element = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", element, count=1)
    element = re.sub(r"font(-family)?: (?P<size>[\d.]+px)? ?'DejaVu Sans'[^;\"]*", r"font-size: \g<size>", element)
    for name, colour in COLOURS.items():
        element = element.replace(colour, f"var(--{name})")
    return element.replace("<svg", f'<svg role="img" aria-label="{html.escape(label)}"', 1)


def share_bars(axes: Any, items: Sequence[tuple[str, float]], xlabel: str, ylabel: str, top: float) -> None:
    """Upright bars of shares, with their percentages on top."""
    labels, shares = zip(*items, strict=True)
    drawn = axes.bar(labels, shares, color=COLOURS["accent"], width=0.72)
    texts = [f"{share:.0%}" for share in shares]
    axes.bar_label(drawn, texts, padding=2, color=COLOURS["ink"], fontsize=8 if len(items) > 8 else 9.5)
    axes.set_ylim(0, top)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.tick_params(axis="x", length=0)


def rows(axes: Any, items: Sequence[tuple[str, float]], texts: Sequence[str], colour: str) -> None:
    """Horizontal bars, the first on top, with their values at the end."""
    drawn = axes.barh(range(len(items)), [value for _, value in items], color=colour, height=0.62)
    axes.bar_label(drawn, texts, padding=4, color=COLOURS["ink"])
    axes.set_yticks(range(len(items)), [_label(text) for text, _ in items])
    axes.set_ylim(len(items) - 0.5, -0.5)
    axes.set_xlim(0, 1.15 * max(value for _, value in items))
    axes.set_xticks([])
    axes.grid(visible=False)
    axes.spines.bottom.set_visible(False)
    axes.tick_params(axis="y", labelcolor=COLOURS["ink"])


def _label(text: str) -> str:
    """Names come from files, and the figure's font draws no more than this."""
    return "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in text[:32])


def row_height(count: int) -> float:
    """The height in inches of a chart of so many horizontal bars."""
    return 0.15 + 0.32 * count
