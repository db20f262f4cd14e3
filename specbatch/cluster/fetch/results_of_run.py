"""Where results.collect finds the results of a run: at the URI of results.publish, or in a folder filled from their volume."""

from __future__ import annotations

import posixpath
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from specbatch.api.job import SpecBatchJob
from specbatch.cluster.client.kinds import CLAIMS, CONFIG_MAPS, JOBS, Object
from specbatch.cluster.fetch.reader_manifest import place_of, reader_pod, results_volume
from specbatch.cluster.fetch.reader_pod import ReaderPod
from specbatch.cluster.fetch.receive import fetch
from specbatch.cluster.jobs.lookup import job_with_pods
from specbatch.cluster.jobs.stored_spec import load_stored_spec
from specbatch.cluster.manifests.mounts import results_folder
from specbatch.cluster.manifests.names import object_labels
from specbatch.cluster.manifests.pod import pod_template
from specbatch.cluster.status.pod_state import has_ended, node_of
from specbatch.errors import ClusterError, ResultsError
from specbatch.formatting import format_bytes
from specbatch.results.collect.output import explained

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster

# Volumes that any node may use, or that the scheduler itself must refuse.
_ANYWHERE = {"ReadWriteMany", "ReadOnlyMany", "ReadWriteOncePod"}
_DENIED = (
    "make the folder and its files readable for that user (chown, chmod -R g+rX), or give the pods the group that may read them by "
    "spec.job.podTemplate: {spec: {securityContext: {fsGroup: GID}}} and submit again"
)


def spec_of(cluster: Cluster, job: Object) -> SpecBatchJob:
    """The spec of a Job, from its ConfigMap.

    Raises:
        ClusterError: the ConfigMap is gone.
        SpecError: it is of another version.
    """
    name = job["metadata"]["name"]
    config_map = cluster.find(CONFIG_MAPS, name)
    if config_map is None:
        remedy = "name the spec's file, or the folder or URI of the results"
        raise ClusterError("it is gone, and with it what the run was", where=f"ConfigMap {name}", remedy=remedy, status=404)  # fmt: skip
    return load_stored_spec(config_map)


def published_at(spec: SpecBatchJob) -> str | None:
    """The URI where a run is published, if it is."""
    publish = spec.spec.results.publish
    return None if publish is None else f"{publish.rstrip('/')}/{spec.results_name}"


@contextmanager
def results_of(
    cluster: Cluster, spec: SpecBatchJob, job: Object | None, temporary: Path, say: Callable[[str], None]
) -> Iterator[str | Path]:
    """The URI or folder from which results.collect reads a run of the cluster; a folder that was filled for it is deleted at the end.

    Args:
        cluster: of the run.
        spec: of the run.
        job: its Job; None where it is gone.
        temporary: where its files may be put meanwhile.
        say: shows a sentence.

    Raises:
        ClusterError: the files cannot be fetched.
        ResultsError: there are none, or they cannot be written here.
    """
    if (uri := published_at(spec)) is not None:
        say(f"the run was published at {uri}")
        yield uri
        return
    with explained(temporary, "make a temporary folder"):
        made = tempfile.TemporaryDirectory(prefix=".specbatch-collect-", dir=temporary)
    with made as parent:
        folder = Path(parent) / spec.results_name
        folder.mkdir()
        _fetch(cluster, spec, job, folder, say)
        yield folder


def pod_at_results(
    cluster: Cluster, spec: SpecBatchJob, job: Object | None, *, writable: bool = False
) -> tuple[ReaderPod, str, str]:
    """A pod that sees the volume of a run's results, not made yet; where they are, and the pod, for people.

    Args:
        cluster: where the run was.
        spec: what it was.
        job: its Job; None where it is gone.
        writable: whether the pod may write to the volume.

    Raises:
        ResultsError: the results are on no volume that outlives the run's pods.
    """
    template = job["spec"]["template"] if job is not None else pod_template(spec, "gone")
    labels = job["metadata"]["labels"] if job is not None else object_labels(spec)
    name = f"{job['metadata']['name'] if job is not None else spec.metadata.name}-{'reshard' if writable else 'reader'}"
    there = results_folder(spec)
    volume, _ = results_volume(template, there)
    node = "" if job is None else _node(cluster, job, volume)

    def manifest() -> Object:
        owner = None if job is None else cluster.find(JOBS, job["metadata"]["name"])
        return reader_pod(template, there, name=name, labels=labels, owner=owner, node=node, writable=writable)

    return ReaderPod(cluster, manifest), place_of(volume), f"pod {name}" + (f" on node {node}" if node else "")


def _fetch(cluster: Cluster, spec: SpecBatchJob, job: Object | None, folder: Path, say: Callable[[str], None]) -> None:
    reader, place, pod_name = pod_at_results(cluster, spec, job)
    command = [
        "python",
        "-m",
        "specbatch.results.collect.send",
        posixpath.join(results_folder(spec), spec.results_name),
    ]
    say(f"reading {place} through {pod_name}")
    with reader as pod:
        done = fetch(
            folder,
            lambda after: pod.run([*command, *map(str, after or ())]),
            alive=pod.alive,
        )
    if done.error:
        if done.denied:
            raise ResultsError(done.error, where=place, remedy=_DENIED)
        beside = f"there are {', '.join(done.beside)}" if done.beside else "has it begun? specbatch status says"
        raise ResultsError(done.error, where=place, remedy=beside)
    say(f"{format_bytes(done.received)} read")


def _node(cluster: Cluster, job: Object, volume: Object) -> str:
    """The node that the reader must run on: the one where the volume is in use, if only one node can use it; else empty."""
    pods = sorted(job_with_pods(cluster, job).pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp")))
    if "hostPath" in volume:  # every node has a folder of its own
        return next((node for pod in reversed(pods) if (node := node_of(pod))), "")
    if "persistentVolumeClaim" not in volume or _ANYWHERE & set(_access_modes(cluster, volume)):
        return ""
    return next((node for pod in pods if (node := node_of(pod)) and not has_ended(pod)), "")


def _access_modes(cluster: Cluster, volume: Object) -> list[str]:
    try:
        claim = cluster.find(CLAIMS, volume["persistentVolumeClaim"]["claimName"])
    except ClusterError as error:
        if error.status != 403:
            raise
        claim = None
    modes: list[str] = ((claim or {}).get("spec") or {}).get("accessModes") or []
    return modes
