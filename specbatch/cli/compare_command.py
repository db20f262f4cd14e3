"""`specbatch compare`: runs side by side."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import Annotated, Literal

import typer

from specbatch.cli.options import PriceOption
from specbatch.cli.output import show, show_document, show_json


def compare(
    directories: Annotated[
        list[str],
        typer.Argument(
            metavar="DIR...", help="Runs: directories, or URIs where they were published. The first is the reference."
        ),
    ],
    *,
    everything: Annotated[bool, typer.Option("--all", help="Also what is the same in all, or not known.")] = False,
    texts: Annotated[
        bool,
        typer.Option("--texts/--no-texts", help="Read every row, and count those with the same text as the first run."),
    ] = True,
    price: PriceOption = None,
    output: Annotated[
        Literal["text", "markdown", "csv", "json"],
        typer.Option("--output", "-o", help="text, markdown, csv or json; the last two hold every field."),
    ] = "text",
) -> None:
    """Put runs side by side: settings, speed, acceptance, answers.

    Also the share of right answers, and how many rows have the same text. Shows what differs, and lists what is the same in all above it. Says where the comparison is not fair: other rows, another
    device, an incomplete run.

    Example: specbatch compare results/k-auto results/k-4

    Exit codes: 0, or 74 where one is no run.
    """
    from specbatch.results.compare.compare import labels_of, read_compared
    from specbatch.results.compare.table import compare_json, render_csv, render_markdown, render_text
    from specbatch.results.compare.texts import same_texts
    from specbatch.results.storage.folder import Folder

    folders = [Folder(directory) for directory in directories]
    labels = labels_of(folders)
    runs = [read_compared(folder, label, price=price) for folder, label in zip(folders, labels, strict=True)]
    if texts and len(folders) > 1:
        runs = [replace(run, texts=same) for run, same in zip(runs, same_texts(folders), strict=True)]
    if output == "text":
        show(render_text(runs, width=shutil.get_terminal_size((120, 24)).columns, everything=everything))
    elif output == "markdown":
        show_document(render_markdown(runs, everything=everything))
    elif output == "csv":
        show_document(render_csv(runs), nl=False)
    else:
        show_json(compare_json(runs))
