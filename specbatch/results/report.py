"""report.html: one self-contained file that tells people what a run did, and its figures as PNG."""

from __future__ import annotations

from pathlib import Path

from specbatch.results.charts import make_charts
from specbatch.results.durable import write_atomic
from specbatch.results.facts import gather
from specbatch.results.figures import render_charts
from specbatch.results.layout import FIGURES, REPORT
from specbatch.results.page import render_page


def write_report(run_dir: str | Path) -> Path:
    """Writes run_dir/report.html and run_dir/figures/*.png from what the directory holds; says where the report is.

    Works at any time: on a run that is complete, under way, killed, empty, or nothing but errors.

    Raises:
        ResultsError: no run is there, matplotlib is not installed, or the files cannot be read or written.
    """
    directory = Path(run_dir)
    facts = gather(directory)
    charts = make_charts(facts)
    page = render_page(facts, charts, render_charts(charts, directory / FIGURES))
    path = directory / REPORT
    write_atomic(path, page.encode("utf-8", "replace"), durable=False)  # a lone surrogate in a row becomes "?"
    return path
