"""Deleting the Jobs, ConfigMaps and pods of a run, never its results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from specbatch.cluster.client.kinds import CONFIG_MAPS, JOBS, PODS, Object
from specbatch.cluster.jobs.job_view import JOB_NAME, JobView
from specbatch.cluster.jobs.lookup import find_jobs
from specbatch.cluster.jobs.messages import results_text
from specbatch.cluster.jobs.run import labels_of, state_of, uid_of
from specbatch.cluster.jobs.stored_spec import load_stored_spec
from specbatch.cluster.jobs.termination_wait import delete_jobs, refuse_helm_managed
from specbatch.cluster.manifests.names import RUN, run_selector
from specbatch.errors import SpecError
from specbatch.formatting import pluralize

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster


@dataclass(frozen=True, slots=True)
class RunObjects:
    """The objects of a run, or of one Job.

    Args:
        name: of the run or Job.
        jobs: its Jobs, newest first.
        config_maps: its ConfigMaps.
        pods: its pods.
    """

    name: str
    jobs: Sequence[JobView]
    config_maps: Sequence[Object]
    pods: Sequence[Object]

    def __bool__(self) -> bool:
        return bool(self.jobs or self.config_maps or self.pods)

    @property
    def text(self) -> str:
        """`Job a, Job b, 2 ConfigMaps, 3 pods`."""
        counts = [(len(self.config_maps), "ConfigMap"), (len(self.pods), "pod")]
        jobs = [f"Job {view.name}" for view in self.jobs]
        return ", ".join([*jobs, *(pluralize(count, word) for count, word in counts if count)])

    @property
    def wrote(self) -> bool:
        """Whether there may be results: only where a Job was ever started."""
        return any(view.submitted and state_of(view) != "queued" for view in self.jobs) or not self.jobs

    @property
    def results(self) -> str:
        """Where the results are; empty where no ConfigMap with the spec is left."""
        for config_map in self.config_maps:
            try:
                return results_text(load_stored_spec(config_map))
            except SpecError:
                continue
        return ""


def run_objects(cluster: Cluster, name: str) -> RunObjects:
    """The objects of a run, or of one Job where `name` is a Job's; without those that are being deleted."""
    labels = run_selector(name)
    found = RunObjects(
        name,
        [JobView(job) for job in _staying(find_jobs(cluster, name))],
        _staying(cluster.list(CONFIG_MAPS, labels=labels)),
        _staying(cluster.list(PODS, labels=labels)),
    )
    job = None if found else cluster.find(JOBS, name)
    if job is None or RUN not in labels_of(job):
        return found
    config_map = cluster.find(CONFIG_MAPS, name)
    pods = _staying(cluster.list(PODS, labels={JOB_NAME: name}))
    return RunObjects(name, [JobView(job)], [] if config_map is None else [config_map], pods)


def delete(cluster: Cluster, found: RunObjects) -> None:
    """Deletes all of them. Pods save what they have before they end.

    Raises:
        ClusterError: a Job is managed by Helm.
    """
    refuse_helm_managed(cluster, found.jobs)
    delete_jobs(cluster, found.jobs)
    # The garbage collector deletes what a Job owns; objects without an owner are deleted here.
    for kind, things in ((CONFIG_MAPS, found.config_maps), (PODS, found.pods)):
        for thing in things:
            cluster.delete(kind, thing["metadata"]["name"], uid=uid_of(thing))


def _staying(things: Iterable[Object]) -> list[Object]:
    return [thing for thing in things if "deletionTimestamp" not in thing["metadata"]]
