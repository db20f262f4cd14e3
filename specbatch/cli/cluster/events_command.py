"""`specbatch events`: the Kubernetes events of a run."""

from __future__ import annotations

import time
from typing import Annotated, Literal

import typer

from specbatch.cli.cluster.cluster_options import ClusterOptions, NameArgument, with_cluster_options
from specbatch.cli.output import say, show, show_json


@with_cluster_options
def events(
    name: NameArgument = None,
    *,
    output: Annotated[
        Literal["text", "json"], typer.Option("--output", "-o", help="text, or json: one object a line.")
    ] = "text",
    options: ClusterOptions,
) -> None:
    """Show the Kubernetes events of a run, the oldest first.

    Of its Job, pods and claims, and of Kueue's Workload. Kubernetes keeps events for an hour by default. `specbatch why` gives the diagnosis.

    Example: specbatch events nightly -n ml

    Exit codes: 0, or 71 where the cluster cannot be reached or has no such Job.
    """
    from specbatch.cluster.logs.events import read_events

    cluster, job = options.find_job(name)
    say(f"Job {job['metadata']['name']}, namespace {cluster.namespace}")
    found = read_events(cluster, job)
    for event in found:
        if output == "json":
            show_json(event.value(), indent=None)
        else:
            show(event.text(time.time()))
    if not found:
        say("no events: there were none, or Kubernetes has deleted them")
