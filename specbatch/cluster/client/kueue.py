"""Kueue's kinds in the API version that a cluster serves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from specbatch.cluster.client.kinds import CLUSTER_QUEUES, LOCAL_QUEUES, WORKLOADS, Kind
from specbatch.errors import ClusterError

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster

JOB_UID = "kueue.x-k8s.io/job-uid"  # label of Workloads: the Job that one stands for
_NEWER = "kueue.x-k8s.io/v1beta2"


@dataclass(frozen=True, slots=True)
class KueueKinds:
    """LocalQueue, ClusterQueue and Workload."""

    local_queues: Kind
    cluster_queues: Kind
    workloads: Kind


def kueue_kinds(cluster: Cluster) -> KueueKinds | None:
    """None where Kueue is not installed.

    Raises:
        ClusterError: with status 403, where LocalQueues may not be listed.
    """
    for version in (LOCAL_QUEUES.api_version, _NEWER):
        kinds = [replace(kind, api_version=version) for kind in (LOCAL_QUEUES, CLUSTER_QUEUES, WORKLOADS)]
        try:
            cluster.list(kinds[0])
        except ClusterError as error:
            if error.status != 404:
                raise
        else:
            return KueueKinds(*kinds)
    return None
