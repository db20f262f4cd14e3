"""Row counts kept on a Job that was stopped: a suspended Job has no pods whose logs `status` could read."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from specbatch.cluster.client.kinds import JOBS, Object
from specbatch.cluster.jobs.job_view import JobView
from specbatch.cluster.jobs.lookup import find_job
from specbatch.cluster.jobs.run import uid_of
from specbatch.cluster.manifests.names import ROW_COUNTS
from specbatch.cluster.status.read_run import read_run
from specbatch.errors import ClusterError

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster


def stop(cluster: Cluster, name: str | None, action: Callable[[Cluster, Object], str]) -> str:
    """Stops the newest Job of a run by `action` (suspend or cancel), and keeps on it what its pods' logs count now.

    The counts are a convenience: where the logs cannot be read, the Job is stopped all the same.

    Returns:
        The sentence of the action.

    Raises:
        ClusterError: as the action does.
    """
    job = find_job(cluster, name)
    view = JobView(job)
    counts: dict[int, Mapping[str, int]] = {}
    if not view.suspended and view.outcome is None:
        with contextlib.suppress(ClusterError):
            counts = {
                one.shard: one.row_counts for one in read_run(cluster, view.name, time.time()).shards if one.row_counts
            }
    sentence = action(cluster, job)
    if counts:
        text = json.dumps({str(shard): dict(found) for shard, found in sorted(counts.items())})
        with contextlib.suppress(ClusterError):
            cluster.patch(JOBS, view.name, {"metadata": {"uid": uid_of(job), "annotations": {ROW_COUNTS: text}}})
    return sentence
