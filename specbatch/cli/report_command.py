"""`specbatch report`: a run as one page for people, with its figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from specbatch.cli.options import PriceOption, RunArgument
from specbatch.cli.output import show


def report(
    directory: RunArgument,
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Where report.html and figures/ go. Default: DIR; for a URI ./NAME-report.",
        ),
    ] = None,
    price: PriceOption = None,
) -> None:
    """Write report.html, one page that needs no network.

    Beside it come its figures as PNG. Works at any time: while the run goes on, after a kill, on what was published. A run writes its report by itself when it ends;
    after specbatch verify, or to look in between, write it again. It shows one row in full; where the results hold no prompts, that
    row's prompt is read from the dataset, if it can be reached and is still the same.

    Example: specbatch report results/quickstart

    Example: specbatch report results/nightly --price 2.5

    Exit codes: 0, or 74 where no run is, or the page cannot be written.
    """
    from specbatch.results.report.report import write_report
    from specbatch.runner.retry import Retrier
    from specbatch.runner.rows.lookup import RowLookup

    lookup = RowLookup(Retrier(0.0))  # one try: the page is as good without a prompt
    show(str(write_report(directory, output, find_prompt=lookup.prompt, price=price)))
