"""`specbatch collect`: a run's files, checked and joined into one."""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Literal

import typer

from specbatch.cli.cluster.cluster_options import ClusterOptions, with_cluster_options
from specbatch.cli.output import say
from specbatch.cli.sources import SourceArgument, is_folder, run_on_cluster

_INCOMPLETE = 1


@with_cluster_options
def collect(
    source: SourceArgument = None,
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="Where the rows go, replaced in one step: .jsonl, .csv, .tsv or .parquet; .gz or .zst at the end compresses. "
            "Default: standard output.",
        ),
    ] = None,
    form: Annotated[
        Literal["jsonl", "csv", "parquet", "openai"] | None,
        typer.Option(
            "--format",
            help="jsonl: the rows as they are; openai: the batch output form; csv, parquet: a flat table. Default: as -o ends, else jsonl.",
        ),
    ] = None,
    join: Annotated[
        bool,
        typer.Option(
            "--join",
            help="A line for each row of the dataset, with the answer beside its own columns, in its own format; error and missing "
            "rows are among them.",
        ),
    ] = False,
    input_uri: Annotated[
        str | None,
        typer.Option(
            "--input", metavar="URI", help="Where the dataset of --join is now. Default: where the run read it."
        ),
    ] = None,
    errors: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Where error rows go. Default: beside -o, as NAME.errors.jsonl, if there are any."
        ),
    ] = None,
    missing: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the index and id of each missing row, one JSON object a line."),
    ] = None,
    take_partial: Annotated[
        bool, typer.Option("--partial", help="Take what is there of a run that is not complete.")
    ] = False,
    tmp: Annotated[
        Path | None, typer.Option(metavar="DIR", help="For temporary files. Default: beside -o, else TMPDIR.")
    ] = None,
    options: ClusterOptions,
) -> None:
    """Join a run's files into one, in input order, each row once.

    Every file is compared with its manifest before a row goes out; rows, errors and what is missing are counted on standard error.

    Of a run on the cluster the files are fetched first: from where they were published, else from their volume, through a pod that
    may only read, and is gone afterwards. Where the Job is gone, name the spec's file.

    In a table, what the rows carry from the dataset are columns of their own, input_NAME where the name is taken; values that are
    not of one type are text, lists and objects are JSON. Error rows beside a table are lines of JSON.

    Example: specbatch collect results/nightly -o nightly.jsonl

    Example: specbatch collect results/nightly -o nightly.csv

    With --join the answer is generated_text and finish_reason, or error_code and error_message (missing: no answer yet), with
    specbatch_ before a name that the dataset has itself. JSON lines keep their bytes; a request of OpenAI's batch API becomes its
    response; other lines become objects.

    Example: specbatch collect results/nightly --join -o answered.csv

    Example: specbatch collect nightly -n ml -o nightly.jsonl

    Exit codes: 0 complete, or --partial; 1 rows are missing, and no results were written; 71 the cluster cannot be reached, or has
    no such run; with --join 65 the dataset is gone or another one, 68 out of reach; 74 damaged, unreadable, or not writable.
    """
    from specbatch.results.collect.collect import collect as collect_run
    from specbatch.results.collect.summary import summary_lines
    from specbatch.runner.rows.input_of_run import InputOfRun
    from specbatch.runner.rows.lookup import RowLookup

    _check_join(form, errors, input_uri, join=join)
    if out is None and form == "parquet" and sys.stdout.isatty():
        raise typer.BadParameter("parquet is not for a terminal: name a file with -o")
    lookup = RowLookup()
    with _stopped_in_order(), _folder(source, _place(out, tmp), options) as folder:
        done = collect_run(
            folder,
            sys.stdout.buffer if out is None else out,
            form=form,
            errors=errors,
            missing=missing,
            partial=take_partial,
            tmp=tmp,
            name_rows=lookup.ids,
            open_input=(lambda identity: InputOfRun(identity, input_uri)) if join else None,
        )
    lines = summary_lines(done, partial=take_partial)
    if lookup.problem:
        lines.append(f"  ids of missing rows are not known: {lookup.problem}")
    say("\n".join(lines))
    if not done.complete and not take_partial:
        raise typer.Exit(_INCOMPLETE)


def _check_join(form: str | None, errors: Path | None, input_uri: str | None, *, join: bool) -> None:
    if input_uri is not None and not join:
        raise typer.BadParameter("--input names the dataset of --join: add that")
    if join and errors is not None:
        raise typer.BadParameter("with --join error rows are in their place among the others: leave --errors out")
    if join and form == "openai":
        raise typer.BadParameter(
            "with --join requests of the batch API have its form by themselves: leave --format out"
        )


def _place(out: Path | None, tmp: Path | None) -> Path:
    """Where fetched files go for the time being: beside the output, which needs the room as well."""
    beside = out is not None and (out.is_file() or not out.exists())  # not a pipe, not a device
    return tmp or (out.resolve().parent if out is not None and beside else Path(tempfile.gettempdir()))


@contextmanager
def _folder(source: str | None, temporary: Path, options: ClusterOptions) -> Iterator[str | Path]:
    """The run's folder or URI; of a run on the cluster, while it is needed."""
    if source is not None and is_folder(source, options):
        yield source
        return
    from specbatch.cluster.fetch.results_of_run import results_of

    cluster, job, spec = run_on_cluster(source, options)
    name = f"Job {job['metadata']['name']}" if job is not None else f"run {spec.metadata.name}, whose Job is gone"
    say(f"{name}, namespace {cluster.namespace}")
    with results_of(cluster, spec, job, temporary, say) as folder:
        yield folder


@contextmanager
def _stopped_in_order() -> Iterator[None]:
    """SIGTERM is an exception in here, so that nothing temporary stays behind."""

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
