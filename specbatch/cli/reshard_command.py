"""`specbatch reshard`: the finished rows of a run dealt out to another number of shards."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from specbatch.cli.cluster.cluster_options import ClusterOptions, with_cluster_options
from specbatch.cli.output import say, show
from specbatch.cli.sources import SourceArgument, is_folder, run_on_cluster


@with_cluster_options
def reshard(
    source: SourceArgument = None,
    *,
    completions: Annotated[
        int,
        typer.Option(min=1, max=100_000, metavar="N", help="The number of shards: job.completions of the next Job."),
    ],
    tmp: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="For temporary files. Default: in the folder; for a URI TMPDIR."),
    ] = None,
    options: ClusterOptions,
) -> None:
    """Change the number of shards of a run that is not complete.

    No process may write it meanwhile. Rows that are finished stay finished: each one moves to the file of its new shard. Killed in between, the same command ends what it
    began. A folder that is still written is refused; of a URI that cannot be told, so end what writes there first.

    Of a run on the cluster, whose pods must be gone, every place is resharded: the volume, in a pod that is there for as long as that
    takes, and the URI where it is published, from here.

    Example: specbatch reshard results/nightly --completions 8

    Example: specbatch reshard nightly -n ml --completions 8

    Exit codes: 0; 71 the cluster cannot be reached, or pods of the run are still there; 74 no run, a complete one, one that is still
    written, damaged files, or not writable.
    """
    if source is not None and is_folder(source, options):
        _reshard_at(source, shards=completions, tmp=tmp)
        return
    from specbatch.cluster.fetch.reshard_run import reshard_run

    cluster, job, spec = run_on_cluster(source, options)
    reshard_run(cluster, spec, job, completions, partial(_reshard_at, shards=completions, tmp=tmp), say)


def _reshard_at(place: str, *, shards: int, tmp: Path | None) -> None:
    from specbatch.formatting import pluralize
    from specbatch.results.collect.reshard import reshard as reshard_run

    done = reshard_run(place, shards, tmp=tmp)
    if done.before == done.shards:
        ended = f": {pluralize(done.removed, 'file')} of another split removed" if done.removed else ""
        show(f"{place} has {pluralize(done.shards, 'shard')}{ended}")
        return
    twice = f"; {pluralize(done.duplicates, 'row')} left out that were there twice" if done.duplicates else ""
    show(
        f"{place}: {pluralize(done.rows, 'row')} moved from {pluralize(done.before, 'shard')} to {done.shards}{twice}; "
        f"go on with job.completions: {done.shards}"
    )
