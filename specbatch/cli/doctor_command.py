"""`specbatch doctor`: whether a cluster is ready for runs."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import typer

from specbatch.cli.cluster_options import ContextOption, KubeconfigOption, NamespaceOption
from specbatch.cli.output import show


def doctor(
    file: Annotated[
        str | None, typer.Argument(metavar="[FILE]", help="A spec to check as well: its claims, Secrets, queue, GPUs.")
    ] = None,
    *,
    output: Annotated[Literal["text", "json"], typer.Option("--output", "-o", help="text or json.")] = "text",
    context: ContextOption = None,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Check a cluster and a namespace: permissions, GPUs, device plugin, storage, quotas, queues, image, versions.

    Every check is ok, warning, failed or not checked (not permitted to look), each with its remedy. Nothing is written. JSON has ok
    and checks, each with check, outcome, message, remedy.

    Example: specbatch doctor -n ml job/qwen3-8b.yaml

    Exit codes: 0, or 1 where a check has failed.
    """
    from specbatch.api.loading import load_spec
    from specbatch.cluster.client.client import Cluster
    from specbatch.cluster.doctor.checkup import Visit, failed
    from specbatch.cluster.doctor.examine import examine
    from specbatch.cluster.doctor.text import render_results, results_json

    job = None if file is None else load_spec(file)
    wanted = namespace or (job.metadata.namespace if job else None)
    cluster = Cluster.connect(context=context, namespace=wanted, kubeconfig=kubeconfig)
    results = examine(Visit(cluster, job))
    show(json.dumps(results_json(results), indent=2) if output == "json" else render_results(results))
    if failed(results):
        raise typer.Exit(1)
