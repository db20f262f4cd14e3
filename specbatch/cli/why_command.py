"""`specbatch why`: what is the matter with a run on the cluster, and what to do about it."""

from __future__ import annotations

import json
import time
from typing import Annotated, Literal

import typer

from specbatch.cli.cluster_options import ContextOption, KubeconfigOption, NameArgument, NamespaceOption
from specbatch.cli.output import show


def why(
    name: NameArgument = None,
    *,
    output: Annotated[Literal["text", "json"], typer.Option("--output", "-o", help="text or json.")] = "text",
    context: ContextOption = None,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Say why a run does not start, does not go on, or has failed: one cause, its remedy, and the evidence.

    Joins the Job, its pods, their events, claims, queues and nodes, as far as they may be read, into one verdict. JSON has cause (a
    word that never changes), sentence, remedy, mood (problem, waiting, fine), shards, since, evidence, others (further causes in the
    same form), not_looked_at, run, job, namespace.

    Example: specbatch why nightly

    Exit codes: 0 whatever the verdict, 71 where the cluster or the run cannot be found.
    """
    from specbatch.cli.cluster_options import connect
    from specbatch.cluster.diagnose.gather import gather
    from specbatch.cluster.diagnose.judge import judge
    from specbatch.cluster.diagnose.text import render_verdict, verdict_json
    from specbatch.cluster.jobs.lookup import find_job

    cluster, run = connect(name, context, namespace, kubeconfig)
    verdict = judge(gather(cluster, find_job(cluster, run)))
    show(json.dumps(verdict_json(verdict), indent=2) if output == "json" else render_verdict(verdict, time.time()))
