"""`specbatch peek`: a dataset's format, columns and first rows as the model will see them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specbatch.cli.options import OutputOption, SetOption
from specbatch.cli.output import say, show, show_json
from specbatch.errors import ExitCode

if TYPE_CHECKING:
    from specbatch.api.job import SpecBatchJob
    from specbatch.runner.peek.encoding import Encoding

_HEAD_BYTES = 1 << 16


def peek(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SPEC|DATASET", help="A spec file (- for standard input), or a dataset: a path, folder or URI."
        ),
    ],
    *,
    rows: Annotated[int, typer.Option("--rows", "-n", min=0, metavar="N", help="How many rows to show in full.")] = 3,
    overrides: SetOption = None,
    output: OutputOption = "text",
) -> None:
    """Show a dataset as the model will see it, before anything runs.

    Its format, its columns, its first rows. Needs neither weights nor a GPU: of the target, its tokenizer alone is read, or downloaded. Without one, prompts are shown as they are
    and not counted. Tells what of the first 1,000 rows would be refused, and why.

    Example: specbatch peek job/quickstart.yaml -n 1

    Example: specbatch peek rows.parquet --set target.model=Qwen/Qwen3-8B

    Exit code 0; 65 where the dataset cannot be read, or none of the rows looked at would be answered.
    """
    from specbatch.runner.peek.peek import peek as look
    from specbatch.runner.peek.text import render_peek

    job, encoding = _of_spec(source, overrides or ()) if _is_spec(source) else _of_dataset(source, overrides or ())
    found = look(job.spec, encoding, rows)
    if output == "json":
        show_json(found.to_json())
    else:
        show(render_peek(found))
    if found.problem is not None:
        raise found.problem
    if found.looked_at == len(found.refused):
        raise typer.Exit(ExitCode.BAD_DATASET)


def _is_spec(source: str) -> bool:
    """Whether a spec is meant: YAML, or JSON that says so; a dataset may be .json, too."""
    if source == "-" or source.endswith((".yaml", ".yml")):
        return True
    if not source.endswith(".json") or "://" in source:
        return False
    try:
        with Path(source).open("rb") as file:
            return b'"SpecBatchJob"' in file.read(_HEAD_BYTES)
    except OSError:
        return False


def _of_spec(source: str, overrides: Sequence[str]) -> tuple[SpecBatchJob, Encoding]:
    from specbatch.api.loading.local_paths import load_spec_here

    job = load_spec_here(source, overrides)
    return job, _encoding(job)


def _of_dataset(uri: str, overrides: Sequence[str]) -> tuple[SpecBatchJob, Encoding]:
    """A job of no model, unless one is given: then its tokenizer counts."""
    from specbatch.api.loading.parsing import job_from
    from specbatch.runner.peek.encoding import no_encoding

    unset = "not/given"
    data = {
        "apiVersion": "specbatch.dev/v1alpha1",
        "kind": "SpecBatchJob",
        "metadata": {"name": "peek"},
        "spec": {"target": {"model": unset}, "dataset": {"uri": uri}},
    }
    job = job_from(data, "peek", overrides)
    if job.spec.target.model == unset:
        return job, no_encoding("nothing yet: --set target.model=MODEL shows its chat template, and counts tokens")
    return job, _encoding(job)


def _encoding(job: SpecBatchJob) -> Encoding:
    from specbatch.runner.peek.encoding import make_encoding

    return make_encoding(job.spec, os.environ, say)
