"""The cluster's nodes: what each has, what of it is free, and which pods hold the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING

from specbatch.cluster.client.kinds import NODES, PODS, Object
from specbatch.cluster.manifests.pod_requests import ENDED, amount, is_extended, requests
from specbatch.errors import ClusterError

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster

GPU_PRODUCT = "nvidia.com/gpu.product"  # labels of NVIDIA's GPU feature discovery
_GPU_LABELS = ("nvidia.com/gpu.present", GPU_PRODUCT, "nvidia.com/gpu.count", "amd.com/gpu.product-name")
_CONTROL_PLANE = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")


@dataclass(frozen=True)
class Node:
    """A node and the pods that are bound to it.

    Args:
        node: the node.
        pods: those that have not ended; None where pods of other namespaces cannot be read.
    """

    node: Object
    pods: Sequence[Object] | None = field(default=None)

    @property
    def name(self) -> str:
        """Of the node."""
        return str(self.node["metadata"]["name"])

    @property
    def labels(self) -> Mapping[str, str]:
        """Of the node."""
        return self.node["metadata"].get("labels") or {}

    @property
    def taints(self) -> Sequence[Object]:
        """Those that keep pods away."""
        taints = self.node.get("spec", {}).get("taints") or ()
        return [taint for taint in taints if taint.get("effect") in {"NoSchedule", "NoExecute"}]

    @property
    def cordoned(self) -> bool:
        """Whether no new pods may come."""
        return bool(self.node.get("spec", {}).get("unschedulable"))

    @property
    def ready(self) -> bool:
        """Whether its kubelet says so."""
        conditions = self.node.get("status", {}).get("conditions") or ()
        return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)

    @property
    def control_plane(self) -> bool:
        """Whether it is there for the control plane."""
        return any(label in self.labels for label in _CONTROL_PLANE)

    @property
    def labelled_gpu(self) -> bool:
        """Whether its labels say that it has GPUs."""
        return any(self.labels.get(label, "false") != "false" for label in _GPU_LABELS)

    @property
    def images(self) -> Sequence[str]:
        """The names of images that lie on it; kubelets list the largest fifty."""
        images = self.node.get("status", {}).get("images") or ()
        return [name for image in images for name in image.get("names") or ()]

    def capacity(self, resource: str) -> Decimal:
        """What pods may have of a resource in all."""
        return amount((self.node.get("status", {}).get("allocatable") or {}).get(resource, 0))

    def free(self, resource: str) -> Decimal | None:
        """What is not requested yet; None where that cannot be read."""
        if self._requested is None:
            return None
        if resource == "pods":
            return self.capacity("pods") - len(self.pods or ())
        return self.capacity(resource) - self._requested.get(resource, Decimal(0))

    @cached_property
    def _requested(self) -> Mapping[str, Decimal] | None:
        if self.pods is None:
            return None
        total: dict[str, Decimal] = {}
        for pod in self.pods:
            for name, value in requests(pod["spec"]).items():
                total[name] = total.get(name, Decimal(0)) + value
        return total


def read_nodes(cluster: Cluster) -> tuple[list[Node] | None, list[str]]:
    """The nodes by name, and what was not permitted; None where nodes may not be read."""
    try:
        nodes = cluster.list(NODES)
    except ClusterError as error:
        if error.status != 403:
            raise
        return None, ["nodes"]
    try:
        pods = cluster.list(PODS, all_namespaces=True)
    except ClusterError as error:
        if error.status != 403:
            raise
        return sorted((Node(node) for node in nodes), key=_name), ["the pods of other namespaces"]
    return with_pods(nodes, pods), []


def with_pods(nodes: Iterable[Object], pods: Iterable[Object]) -> list[Node]:
    """Each node with the pods on it that have not ended, in the order of their names."""
    bound: dict[str, list[Object]] = {}
    for pod in pods:
        if pod.get("status", {}).get("phase") not in ENDED and pod["spec"].get("nodeName"):
            bound.setdefault(pod["spec"]["nodeName"], []).append(pod)
    return sorted((Node(node, bound.get(node["metadata"]["name"], [])) for node in nodes), key=_name)


def extended_resources(nodes: Iterable[Node]) -> list[str]:
    """The device resources that some node has."""
    found = {name for node in nodes for name in node.node.get("status", {}).get("allocatable") or {}}
    return sorted(name for name in found if is_extended(name))


def _name(node: Node) -> str:
    return node.name
