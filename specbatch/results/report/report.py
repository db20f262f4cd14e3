"""report.html: one self-contained file that tells people what a run did, and its figures as PNG."""

from __future__ import annotations

import os
from pathlib import Path

from specbatch.errors import ResultsError
from specbatch.results.layout import FIGURES, REPORT
from specbatch.results.report.charts import make_charts
from specbatch.results.report.facts import gather
from specbatch.results.report.figures import render_charts
from specbatch.results.report.page import render_page
from specbatch.results.storage.durable import make_directory, write_atomic
from specbatch.results.storage.folder import Folder


def write_report(run: str | Path | Folder, output: Path | None = None) -> Path:
    """Writes report.html and figures/*.png from what the run's folder holds; says where the report is.

    Works at any time: on a run that is complete, under way, killed, empty, or nothing but errors.

    Args:
        run: the run's directory, or the URI where it was published.
        output: the directory for report and figures; the run's own where None, and for a URI ./<name>-report.

    Raises:
        ResultsError: no run is there, matplotlib is not installed, or the files cannot be read or written.
    """
    folder = run if isinstance(run, Folder) else Folder(run)
    facts = gather(folder)
    directory = output or folder.local or Path(f"{folder.name}-report")
    if directory == folder.local and not os.access(directory, os.W_OK):
        remedy = "say where the report goes: specbatch report DIR -o FOLDER"
        raise ResultsError("the run's directory cannot be written", where=folder.uri, remedy=remedy)
    charts = make_charts(facts)
    make_directory(directory)
    page = render_page(facts, charts, render_charts(charts.drawn, directory / FIGURES))
    path = directory / REPORT
    write_atomic(path, page.encode("utf-8", "replace"), durable=False)  # a lone surrogate in a row becomes "?"
    return path
