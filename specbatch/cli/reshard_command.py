"""`specbatch reshard`: the finished rows of a run dealt out to another number of shards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from specbatch.cli.options import RunArgument
from specbatch.cli.output import show


def reshard(
    directory: RunArgument,
    *,
    completions: Annotated[
        int,
        typer.Option(min=1, max=100_000, metavar="N", help="The number of shards: job.completions of the next Job."),
    ],
    tmp: Annotated[
        Path | None, typer.Option(metavar="DIR", help="For temporary files. Default: in DIR; for a URI TMPDIR.")
    ] = None,
) -> None:
    """Change the number of shards of a run that is not complete, while no process writes it.

    Rows that are finished stay finished: each one moves to the file of its new shard. Killed in between, the same command ends what it
    began. A folder that is still written is refused; nothing can be told of a URI, so end the run's Jobs first. A run that has both,
    a volume and a place where it is published, needs it for each.

    Example: specbatch reshard results/nightly --completions 8

    Exit codes: 0; 74 no run, a complete one, one that is still written, damaged files, or not writable.
    """
    from specbatch.formatting import pluralize
    from specbatch.results.collect.reshard import reshard as reshard_run

    done = reshard_run(directory, completions, tmp=tmp)
    if done.before == done.shards:
        ended = f": {pluralize(done.removed, 'file')} of another split removed" if done.removed else ""
        show(f"{directory} has {pluralize(done.shards, 'shard')}{ended}")
        return
    twice = f", {pluralize(done.duplicates, 'row')} that were there twice left out" if done.duplicates else ""
    show(
        f"{directory}: {pluralize(done.rows, 'row')} moved from {pluralize(done.before, 'shard')} to {done.shards}{twice}; "
        f"go on with job.completions: {done.shards}"
    )
