"""`specbatch why`: what is the matter with a run on the cluster, and what to do about it."""

from __future__ import annotations

import time

from specbatch.cli.cluster.cluster_options import ClusterOptions, NameArgument, with_cluster_options
from specbatch.cli.options import OutputOption
from specbatch.cli.output import show, show_json


@with_cluster_options
def why(
    name: NameArgument = None,
    *,
    output: OutputOption = "text",
    options: ClusterOptions,
) -> None:
    """Say why a run does not start, does not go on, or has failed.

    One cause, its remedy, and the evidence. Joins the Job, its pods, their events, claims, queues and nodes, as far as they may be read, into one verdict. JSON has cause (a
    word that never changes), sentence, remedy, severity (error, warning, ok), shards, since, evidence, others (further causes in the
    same form), not_looked_at, run, job, namespace.

    Example: specbatch why nightly

    Exit codes: 0 whatever the verdict, 71 where the cluster or the run cannot be found.
    """
    from specbatch.cluster.diagnose.evidence import Evidence
    from specbatch.cluster.diagnose.text import render_verdict, verdict_json
    from specbatch.cluster.diagnose.why import verdict_of
    from specbatch.cluster.jobs.lookup import job_with_pods

    cluster, job = options.find_job(name)
    verdict = verdict_of(Evidence(cluster, job_with_pods(cluster, job)))
    if output == "json":
        show_json(verdict_json(verdict))
    else:
        show(render_verdict(verdict, time.time()))
