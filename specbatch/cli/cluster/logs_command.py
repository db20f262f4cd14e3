"""`specbatch logs`: what the pods of a run write."""

from __future__ import annotations

from typing import Annotated

import typer

from specbatch.cli.cluster.cluster_options import ClusterOptions, NameArgument, with_cluster_options
from specbatch.cli.output import say, show


@with_cluster_options
def logs(
    name: NameArgument = None,
    *,
    follow: Annotated[
        bool,
        typer.Option("--follow", "-f", help="Go on with what is written, in all pods to come, until the Job ends."),
    ] = False,
    shard: Annotated[int | None, typer.Option(min=0, metavar="I", help="Of this shard only.")] = None,
    tail: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Begin with the last N lines of each pod. Default: all.")
    ] = None,
    previous: Annotated[
        bool, typer.Option("--previous", "-p", help="Of the pod before the newest: why did it end?")
    ] = False,
    timestamps: Annotated[bool, typer.Option(help="The time before each line.")] = False,
    since: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="Begin with lines that are not older.")
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw/--text", help="Lines as they are, JSON and all; or the runner's own in words.")
    ] = False,
    options: ClusterOptions,
) -> None:
    """Show the logs of a run's pods.

    Of each shard the newest pod's; of several shards with the shard before each line. With --follow no line is lost or shown twice, whatever connections and pods do; it ends with the Job.

    Example: specbatch logs nightly -f --tail 5

    Exit codes: 0, or 71 where the cluster cannot be reached, has no such Job, or no pod of it yet.
    """
    from specbatch.cluster.logs.logs import LogOptions, follow_run, read_logs

    if follow and previous:
        raise typer.BadParameter("--previous is of a pod that has ended: there is nothing to follow")
    cluster, job = options.find_job(name)
    wanted = LogOptions(shard=shard, tail=tail, seconds=since, previous=previous, timestamps=timestamps, raw=raw)
    say(f"Job {job['metadata']['name']}, namespace {cluster.namespace}")
    if follow:
        follow_run(cluster, job, show, wanted)
    else:
        read_logs(cluster, job, show, wanted, say)
