"""`specbatch wait`: until a Job has ended, whichever way."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import typer

from specbatch.cli.cluster_options import ContextOption, KubeconfigOption, NameArgument, NamespaceOption, connect
from specbatch.cli.output import show
from specbatch.cli.waiting_display import end_of_job, exit_code, say


def wait(
    name: NameArgument = None,
    *,
    timeout: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="Not longer. Default: as long as it takes.")
    ] = None,
    output: Annotated[Literal["text", "json"], typer.Option("--output", "-o", help="text or json.")] = "text",
    context: ContextOption = None,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Wait until a Job has ended: complete, failed, cancelled or deleted, whichever comes first.

    A suspended Job is waited for, too, and said to be suspended. Ctrl-C leaves the Job alone.

    Example: specbatch wait nightly -n ml --timeout 3600 && specbatch collect nightly -n ml

    Exit codes: 0 where the Job is complete; 1 where it failed, was cancelled, or was deleted meanwhile; 124 where --timeout passed; 71
    where there is no such Job, or the cluster cannot be reached; 130 Ctrl-C.

    --output json: run, job, namespace, state, shards, shards_done, shards_failed, end (complete, failed, cancelled, deleted, timeout), reason.
    """
    from specbatch.cluster.jobs.job_view import JobView
    from specbatch.cluster.jobs.lookup import find_job
    from specbatch.cluster.jobs.messages import Flags, job_document, wait_result_lines

    cluster, run = connect(name, context, namespace, kubeconfig)
    flags = Flags(context, namespace, kubeconfig)
    emit = show if output == "text" else say
    ending = end_of_job(cluster, find_job(cluster, run), flags, seconds=timeout, emit=emit)
    if output == "text":
        show("\n".join(wait_result_lines(ending, flags)))
    else:
        show(json.dumps(job_document(JobView(ending.job), end=ending.end, reason=ending.reason), indent=2))
    if ending.end != "complete":
        raise typer.Exit(exit_code(ending))
