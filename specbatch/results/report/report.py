"""report.html: one self-contained page of what a run did, and its figures as PNG."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from specbatch.errors import ResultsError
from specbatch.results.layout import FIGURES, REPORT
from specbatch.results.report.charts import make_charts
from specbatch.results.report.facts import gather
from specbatch.results.report.figures import render_charts
from specbatch.results.report.page import render_page
from specbatch.results.report.sample import FindPrompt, find_sample
from specbatch.results.storage.durable import make_directory, write_atomic
from specbatch.results.storage.folder import Folder


def write_report(
    run: str | Path | Folder,
    output: Path | None = None,
    *,
    find_prompt: FindPrompt | None = None,
    price: float | None = None,
) -> Path:
    """Writes report.html and figures/*.png from what the run's folder holds; returns the report's path.

    Works at any time: on a run that is complete, under way, killed, empty, or nothing but errors.

    Args:
        run: the run's directory, or the URI where it was published.
        output: the directory for report and figures; the run's own where None, and for a URI ./<name>-report.
        find_prompt: looks up the prompt of a row that the run did not store.
        price: of a GPU for an hour, in place of the one that the run was given.

    Raises:
        ResultsError: no run is there, jinja2 or matplotlib is not installed, or the files cannot be read or written.
    """
    folder = run if isinstance(run, Folder) else Folder(run)
    facts = gather(folder, price=price)
    directory = output or folder.local or Path(f"{folder.name}-report")
    if directory == folder.local and not os.access(directory, os.W_OK):
        remedy = "name another folder for the report: specbatch report DIR -o FOLDER"
        raise ResultsError("the run's directory cannot be written", where=folder.uri, remedy=remedy)
    _check_installed(folder)
    make_directory(directory)
    charts = make_charts(facts)
    figures = render_charts(charts.drawn, directory / FIGURES)
    page = render_page(facts, charts, figures, find_sample(facts, find_prompt))
    path = directory / REPORT
    write_atomic(path, page.encode("utf-8", "replace"), durable=False)  # a lone surrogate in a row becomes "?"
    return path


def _check_installed(folder: Folder) -> None:
    """Here, once: both are imported on first use, a third of a second that only reports pay."""
    missing = [name for name in ("jinja2", "matplotlib") if find_spec(name) is None]
    if missing:
        raise ResultsError(
            f"the report needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed",
            where=folder.uri,
            remedy=f"pip install 'specbatch[runner]' (or {' '.join(missing)}), then: specbatch report DIR; or set results.report: false",
        )
