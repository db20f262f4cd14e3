"""`specbatch events`: what Kubernetes tells of a run."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from specbatch.cli.cluster_options import ContextOption, KubeconfigOption, NameArgument, NamespaceOption, connect
from specbatch.cli.output import show

if TYPE_CHECKING:
    from specbatch.cluster.logs.events import RunEvent


def events(
    name: NameArgument = None,
    *,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Go on with those that come, until the Job has ended.")
    ] = False,
    output: Annotated[
        Literal["text", "json"], typer.Option("--output", "-o", help="text, or json: one object a line.")
    ] = "text",
    context: ContextOption = None,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Show what Kubernetes tells of a run: the events of its Job, pods and claims, and Kueue's, the oldest first.

    Kubernetes keeps events for an hour, as a rule. `specbatch why` says what they come to.

    Example: specbatch events nightly --watch

    Exit codes: 0, or 71 where the cluster cannot be reached or has no such Job.
    """
    from specbatch.cluster.jobs.lookup import find_job
    from specbatch.cluster.logs.events import read_events, watch_events

    def emit(event: RunEvent) -> None:
        show(json.dumps(event.value()) if output == "json" else event.text(time.time()))

    cluster, run = connect(name, context, namespace, kubeconfig)
    job = find_job(cluster, run)
    show(f"Job {job['metadata']['name']}, namespace {cluster.namespace}", err=True)
    if watch:
        watch_events(cluster, job, emit)
        return
    found = read_events(cluster, job)
    for event in found:
        emit(event)
    if not found:
        show("no events: there were none, or Kubernetes has forgotten them", err=True)
