"""`specbatch events`: what Kubernetes tells of a run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from specbatch.cli.cluster_options import ClusterOptions, NameArgument, with_cluster_options
from specbatch.cli.output import say, show, show_json

if TYPE_CHECKING:
    from specbatch.cluster.logs.events import RunEvent


@with_cluster_options
def events(
    name: NameArgument = None,
    *,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Go on with those that come, until the Job has ended.")
    ] = False,
    output: Annotated[
        Literal["text", "json"], typer.Option("--output", "-o", help="text, or json: one object a line.")
    ] = "text",
    options: ClusterOptions,
) -> None:
    """Show what Kubernetes tells of a run: the events of its Job, pods and claims, and Kueue's, the oldest first.

    Kubernetes keeps events for an hour, as a rule. `specbatch why` says what they come to.

    Example: specbatch events nightly --watch

    Exit codes: 0, or 71 where the cluster cannot be reached or has no such Job.
    """
    from specbatch.cluster.logs.events import read_events, watch_events

    def emit(event: RunEvent) -> None:
        if output == "json":
            show_json(event.value(), indent=None)
        else:
            show(event.text(time.time()))

    cluster, job = options.find_job(name)
    say(f"Job {job['metadata']['name']}, namespace {cluster.namespace}")
    if watch:
        watch_events(cluster, job, emit)
        return
    found = read_events(cluster, job)
    for event in found:
        emit(event)
    if not found:
        say("no events: there were none, or Kubernetes has forgotten them")
