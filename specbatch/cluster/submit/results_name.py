"""The results folder of a submit: that of the run's newest Job, or with --fresh a new one.

Nothing is deleted for a fresh start, so pods that start together, are killed or are restarted cannot disagree about which files are old. The
name is in the spec (results.name), and so in the Job's ConfigMap: a retry, `collect` and every restarted pod read it there.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from specbatch.api.job import SpecBatchJob
from specbatch.cluster.client.kinds import CONFIG_MAPS
from specbatch.cluster.jobs.lookup import find_jobs
from specbatch.cluster.jobs.stored_spec import load_stored_spec
from specbatch.errors import ClusterError, SpecError

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster

_TIME = "%Y%m%d-%H%M%S"
_RUN_CHARS = 63 - 1 - len("20260101-000000")


def with_fresh_folder(job: SpecBatchJob, clock: float | None = None) -> SpecBatchJob:
    """The spec with a new folder: the run's name and the time in UTC. `clock` is the Unix time now."""
    now = time.strftime(_TIME, time.gmtime(time.time() if clock is None else clock))
    return _named(job, f"{job.metadata.name[:_RUN_CHARS].rstrip('-')}-{now}")


def with_folder_of_run(cluster: Cluster, job: SpecBatchJob) -> SpecBatchJob:
    """The spec with the folder of the run's newest Job, where the spec itself names none: that Job may have been submitted with --fresh."""
    if job.spec.results.name is not None:
        return job
    try:
        newest = next(iter(find_jobs(cluster, job.metadata.name)), None)
        config_map = None if newest is None else cluster.find(CONFIG_MAPS, newest["metadata"]["name"])
        name = None if config_map is None else load_stored_spec(config_map).spec.results.name
    except ClusterError as error:
        if error.status != 403:  # the checks that follow report missing permissions
            raise
        return job
    except SpecError:  # of another version
        return job
    return job if name is None else _named(job, name)


def _named(job: SpecBatchJob, name: str) -> SpecBatchJob:
    results = job.spec.results.model_copy(update={"name": name})
    return job.model_copy(update={"spec": job.spec.model_copy(update={"results": results})})
