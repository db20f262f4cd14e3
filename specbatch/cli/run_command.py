"""`specbatch run`: a spec on this machine, with the code that the pods run."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer

from specbatch.cli.options import SetOption, SpecArgument


def run(
    file: SpecArgument,
    *,
    overrides: SetOption = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="ROWS", help="Only the first so many rows (sets dataset.limit, and makes it another run)."
        ),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete the earlier results of this run first.")] = False,
    price: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="AMOUNT",
            help="What one GPU costs for an hour, in any currency: summary, status and report show what a million generated tokens cost. "
            "Default: the environment's SPECBATCH_PRICE.",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing but errors.")] = False,
    log_format: Annotated[
        Literal["text", "json"],
        typer.Option(help="text: live on a terminal, else plain lines; json: one object a line, as in pods."),
    ] = "text",
) -> None:
    """Run a spec on this machine.

    Results are appended as rows finish; after a crash or Ctrl-C the same command goes on where it was.

    Example: specbatch run spec.yaml --set decoding.maxNewTokens=64 --limit 100

    Exit codes: 64 bad spec, 65 bad dataset, 66 model missing, 68 input, hub or store out of reach for now, 69 GPU fault,
    70 out of memory, 74 results not written, 75 stopped.
    """
    from specbatch.api.loading.local_paths import load_spec_here
    from specbatch.runner.display import choose_display
    from specbatch.runner.job import run_job

    changes = [*(overrides or ()), *([] if limit is None else [f"dataset.limit={limit}"])]
    job = load_spec_here(file, changes)
    run_job(job, display=choose_display(sys.stdout, quiet=quiet, log_format=log_format), fresh=fresh, price=price)
