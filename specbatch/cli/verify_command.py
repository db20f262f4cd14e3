"""`specbatch verify`: a sample of a run's rows, replayed with the target alone."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from specbatch.cli.options import OutputOption, SetOption
from specbatch.cli.output import say, show, show_json

_UNEXPLAINED = 1  # the exit code


def verify(
    directory: Annotated[
        str,
        typer.Argument(metavar="DIR", help="The run: the directory on this machine that holds its manifest-*.json."),
    ],
    *,
    sample: Annotated[
        int, typer.Option(min=1, metavar="ROWS", help="How many rows to replay; all where there are fewer.")
    ] = 100,
    seed: Annotated[
        int, typer.Option(min=0, metavar="N", help="Chooses the rows; the same ones for the same seed.")
    ] = 0,
    gpus: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="N", help="GPUs for the target, placed again; 0 is the CPU. Default: placed as in the run."
        ),
    ] = None,
    overrides: SetOption = None,
    output: OutputOption = "text",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing but the result and errors.")] = False,
) -> None:
    """Replay finished rows with the target alone, and compare.

    A row is exact, a tie (it differs only where the target's scores are too near to call), or unexplained. The certificate
    goes into the run's manifests. The dataset and the target must be where they were, or be named with --set.

    Example: specbatch verify results/quickstart --sample 50

    Exit codes: 0 no unexplained row, 1 unexplained rows, 64 bad --set, 65 dataset gone or changed, 66 target missing or another one,
    68 input or hub out of reach for now, 69 GPU fault, 70 out of memory, 74 no manifest or not writable, 75 stopped.
    """
    from specbatch.results.status.status import read_status
    from specbatch.results.storage.folder import Folder
    from specbatch.results.verification import render_verification
    from specbatch.runner.verify.verify import verify_run

    replaced = (f"gpus={gpus}", "strategy=auto", "ratio=null", "replicas=auto")
    placed = [] if gpus is None else [f"placement.{change}" for change in replaced]
    found = verify_run(
        directory,
        sample,
        seed=seed,
        overrides=[*placed, *(overrides or ())],
        say=(lambda _: None) if quiet else say,
    )
    if output == "json":
        show_json(found.to_json())
    else:
        speedup = read_status(Folder(directory), time.time()).speedup
        show(render_verification(found, name=Path(directory).name, speedup=str(speedup or "")))
    if found.unexplained:
        raise typer.Exit(_UNEXPLAINED)
