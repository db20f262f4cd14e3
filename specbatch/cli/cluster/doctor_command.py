"""`specbatch doctor`: whether a cluster is ready for runs."""

from __future__ import annotations

from typing import Annotated

import typer

from specbatch.cli.cluster.cluster_options import ClusterOptions, with_cluster_options
from specbatch.cli.options import OutputOption
from specbatch.cli.output import show, show_json


@with_cluster_options
def doctor(
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="A spec to check as well: its claims, Secrets, queue, GPUs.")
    ] = None,
    *,
    output: OutputOption = "text",
    options: ClusterOptions,
) -> None:
    """Check a cluster: permissions, GPUs, storage, queues, image.

    Also the device plugin, quotas and versions, in one namespace. Every check is ok, warning, failed or not checked (not permitted to look), each with its remedy. Nothing is written. JSON has ok
    and checks, each with check, outcome, message, remedy.

    Example: specbatch doctor -n ml job/qwen3-8b.yaml

    Exit codes: 0, or 1 where a check has failed.
    """
    from specbatch.api.loading.load import load_spec
    from specbatch.cluster.diagnose.text import findings_json, render_findings
    from specbatch.cluster.doctor.examine import examine, failed

    job = None if file is None else load_spec(file)
    cluster, _ = options.connect(namespace=job.metadata.namespace if job else None)
    findings = examine(cluster, job)
    if output == "json":
        show_json(findings_json(findings))
    else:
        show(render_findings(findings))
    if failed(findings):
        raise typer.Exit(1)
