"""The kinds of Kubernetes objects that specbatch reads or writes, and their paths in the API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
"""A Kubernetes object as JSON gives it."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object.

    Args:
        api_version: such as v1 or batch/v1.
        plural: its name in URLs and in RBAC rules.
        name: its name in manifests.
        namespaced: whether its objects live in a namespace.
    """

    api_version: str
    plural: str
    name: str
    namespaced: bool = True

    @property
    def group(self) -> str:
        """The API group; empty for the core."""
        return self.api_version.rpartition("/")[0]

    def path(self, namespace: str | None, name: str = "") -> str:
        """The API path of the objects (of a namespace; None for all), or of one."""
        root = f"/apis/{self.api_version}" if self.group else f"/api/{self.api_version}"
        within = f"/namespaces/{namespace}" if self.namespaced and namespace is not None else ""
        return f"{root}{within}/{self.plural}" + (f"/{name}" if name else "")


JOBS = Kind("batch/v1", "jobs", "Job")
PODS = Kind("v1", "pods", "Pod")
CONFIG_MAPS = Kind("v1", "configmaps", "ConfigMap")
EVENTS = Kind("v1", "events", "Event")
CLAIMS = Kind("v1", "persistentvolumeclaims", "PersistentVolumeClaim")
SECRETS = Kind("v1", "secrets", "Secret")
QUOTAS = Kind("v1", "resourcequotas", "ResourceQuota")
NODES = Kind("v1", "nodes", "Node", namespaced=False)
VOLUMES = Kind("v1", "persistentvolumes", "PersistentVolume", namespaced=False)
NAMESPACES = Kind("v1", "namespaces", "Namespace", namespaced=False)
STORAGE_CLASSES = Kind("storage.k8s.io/v1", "storageclasses", "StorageClass", namespaced=False)
# Kueue's; absent where it is not installed.
LOCAL_QUEUES = Kind("kueue.x-k8s.io/v1beta1", "localqueues", "LocalQueue")
CLUSTER_QUEUES = Kind("kueue.x-k8s.io/v1beta1", "clusterqueues", "ClusterQueue", namespaced=False)
WORKLOADS = Kind("kueue.x-k8s.io/v1beta1", "workloads", "Workload")
