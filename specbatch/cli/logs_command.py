"""`specbatch logs`: what the pods of a run write."""

from __future__ import annotations

from typing import Annotated

import typer

from specbatch.cli.cluster_options import ContextOption, KubeconfigOption, NameArgument, NamespaceOption, connect
from specbatch.cli.output import show


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
    context: ContextOption = None,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Show the logs of a run's pods: of each shard the newest pod's; of several shards with the shard before each line.

    With --follow no line is lost and none told twice, whatever connections and pods do; it ends with the Job.

    Example: specbatch logs nightly -f --tail 5

    Exit codes: 0, or 71 where the cluster cannot be reached, has no such Job, or no pod of it yet.
    """
    from specbatch.cluster.jobs.lookup import find_job
    from specbatch.cluster.logs.logs import LogOptions, follow_run, read_logs

    if follow and previous:
        raise typer.BadParameter("--previous is of a pod that has ended: there is nothing to follow")
    cluster, run = connect(name, context, namespace, kubeconfig)
    job = find_job(cluster, run)
    options = LogOptions(shard=shard, tail=tail, seconds=since, previous=previous, timestamps=timestamps, raw=raw)
    show(f"Job {job['metadata']['name']}, namespace {cluster.namespace}", err=True)
    if follow:
        follow_run(cluster, job, show, options)
    else:
        read_logs(cluster, job, show, options, lambda said: show(said, err=True))
