"""`specbatch wait`: until a Job has ended, whichever way."""

from __future__ import annotations

from typing import Annotated

import typer

from specbatch.cli.cluster.cluster_options import ClusterOptions, NameArgument, with_cluster_options
from specbatch.cli.cluster.waiting_display import wait_for_job
from specbatch.cli.options import OutputOption
from specbatch.cli.output import say, show, show_json


@with_cluster_options
def wait(
    name: NameArgument = None,
    *,
    timeout: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="Not longer. Default: as long as it takes.")
    ] = None,
    output: OutputOption = "text",
    options: ClusterOptions,
) -> None:
    """Wait until a run has ended.

    Its Job is complete, failed, cancelled or deleted, whichever comes first. A suspended Job is waited for, too, and shown as suspended. Ctrl-C leaves the Job alone.

    Example: specbatch wait nightly -n ml && specbatch collect nightly -n ml

    Exit codes: 0 where the Job is complete; 1 where it failed, was cancelled, or was deleted meanwhile; 124 where --timeout passed; 71
    where there is no such Job, or the cluster cannot be reached; 130 Ctrl-C.

    --output json: run, job, namespace, state, shards, shards_done, shards_failed, end (complete, failed, cancelled, deleted, timeout), reason.
    """
    cluster, job = options.find_job(name)
    document, code = wait_for_job(cluster, job, seconds=timeout, emit=show if output == "text" else say)
    if output == "json":
        show_json(document)
    raise typer.Exit(code)
