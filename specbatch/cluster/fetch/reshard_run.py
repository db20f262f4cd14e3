"""A run on a cluster, resharded where its results are: on their volume by a pod that may write there, and at the URI from here."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from typing import TYPE_CHECKING

from specbatch.api.job import SpecBatchJob
from specbatch.cluster.client.kinds import Object
from specbatch.cluster.fetch.reader_manifest import results_volume
from specbatch.cluster.fetch.results_of_run import pod_at_results, published_at
from specbatch.cluster.jobs.termination_wait import live_pods
from specbatch.cluster.manifests.mounts import results_folder
from specbatch.cluster.manifests.pod import pod_template
from specbatch.errors import ClusterError, ResultsError
from specbatch.formatting import first_lines

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster

_NAMES_SHOWN = 5


def reshard_run(
    cluster: Cluster,
    spec: SpecBatchJob,
    job: Object | None,
    shards: int,
    reshard_at: Callable[[str], None],
    say: Callable[[str], None],
) -> None:
    """Reshards every place that holds the run's results: the volume, and the URI where it is published.

    Args:
        cluster: where the run was.
        spec: what it was.
        job: its Job; None where it is gone.
        shards: the new number.
        reshard_at: reshards a URI from here.
        say: shows a line.

    Raises:
        ClusterError: pods of the run are still there, or the reshard in the pod failed.
        ResultsError: the results are nowhere, or the reshard at the URI failed.
    """
    _refuse_running(cluster, spec.metadata.name)
    uri = published_at(spec)
    if uri is None or _on_a_volume(spec, job):
        pod_at_volume, place, pod_name = pod_at_results(cluster, spec, job, writable=True)
        say(f"resharding {place} in {pod_name}")
        folder = posixpath.join(results_folder(spec), spec.results_name)
        with pod_at_volume as pod:
            command = ["python", "-m", "specbatch", "reshard", folder, "--completions", str(shards)]
            say(b"".join(pod.run(command)).decode(errors="replace").strip())
    if uri is not None:
        reshard_at(uri)


def _on_a_volume(spec: SpecBatchJob, job: Object | None) -> bool:
    template = job["spec"]["template"] if job is not None else pod_template(spec, "gone")
    try:
        results_volume(template, results_folder(spec))
    except ResultsError:
        return False
    return True


def _refuse_running(cluster: Cluster, run: str) -> None:
    """A store has no locks, and not every volume has: no pod of the run may be left."""
    left = [pod["metadata"]["name"] for pod in live_pods(cluster, run)]
    if left:
        raise ClusterError(
            f"pods of the run are still there: {', '.join(first_lines(left, _NAMES_SHOWN))}",
            where=f"namespace {cluster.namespace}",
            remedy=f"end the run first, and wait for its pods: {cluster.flags.command('cancel', run)}",
            status=409,
        )
