"""Nodes: what each has and what of it is free, and whether it would take a pod by its labels and taints, as the scheduler sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from operator import gt, lt

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.manifests.pod_requests import ENDED, amount, is_extended, requests, summed

GPU_PRODUCT = "nvidia.com/gpu.product"  # labels of NVIDIA's GPU feature discovery
_GPU_LABELS = ("nvidia.com/gpu.present", GPU_PRODUCT, "nvidia.com/gpu.count", "amd.com/gpu.product-name")
_COMPARED: Mapping[str, Callable[[int, int], bool]] = {"Gt": gt, "Lt": lt}


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
    def usable(self) -> bool:
        """Whether new pods may start on it."""
        return self.ready and not self.cordoned

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

    def has(self, asked: Mapping[str, Decimal]) -> bool:
        """Whether it is large enough, were it empty."""
        return all(self.capacity(name) >= value for name, value in asked.items())

    def selected(self, spec: Object) -> bool:
        """Whether it has every label that a pod's spec requires, by nodeSelector and node affinity."""
        if any(self.labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
            return False
        terms = _affinity_terms(spec)
        return not terms or any(self._matches(term) for term in terms)

    def untolerated(self, spec: Object) -> list[Object]:
        """Its taints that a pod's spec does not tolerate; that of a cordoned node is not one of them."""
        taints = (taint for taint in self.taints if taint.get("key") != "node.kubernetes.io/unschedulable")
        return [taint for taint in taints if not any(tolerates(one, taint) for one in spec.get("tolerations") or ())]

    @cached_property
    def _requested(self) -> Mapping[str, Decimal] | None:
        return None if self.pods is None else summed(requests(pod["spec"]) for pod in self.pods)

    def _matches(self, term: Object) -> bool:
        """Every expression of a term of node affinity; an empty term matches nothing."""
        expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
        named = {"metadata.name": self.name}
        return bool(expressions or fields) and all(
            _holds(one, labels) for ones, labels in ((expressions, self.labels), (fields, named)) for one in ones
        )


def with_pods(nodes: Iterable[Object], pods: Iterable[Object] | None) -> list[Node]:
    """Each node with the pods on it that have not ended, in the order of their names."""
    bound: dict[str, list[Object]] = {}
    for pod in pods or ():
        if pod.get("status", {}).get("phase") not in ENDED and pod["spec"].get("nodeName"):
            bound.setdefault(pod["spec"]["nodeName"], []).append(pod)
    made = (Node(node, None if pods is None else bound.get(node["metadata"]["name"], [])) for node in nodes)
    return sorted(made, key=lambda node: node.name)


def device_resources(nodes: Iterable[Node]) -> list[str]:
    """The device resources that some node has."""
    return sorted(
        {name for node in nodes for name in node.node.get("status", {}).get("allocatable") or {} if is_extended(name)}
    )


def tolerates(toleration: Object, taint: Object) -> bool:
    """Whether one toleration is for one taint."""
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    if toleration.get("operator") == "Exists":
        return True
    return bool(toleration.get("key")) and (toleration.get("value") or "") == (taint.get("value") or "")


def taint_text(taint: Object) -> str:
    """As kubectl writes it: key=value:effect."""
    value = f"={taint['value']}" if taint.get("value") else ""
    return f"{taint.get('key', '')}{value}:{taint.get('effect', '')}"


def wanted_labels(spec: Object) -> dict[str, Sequence[str]]:
    """The labels that a pod's spec requires, each with the values that would do; none where any value does."""
    wanted: dict[str, Sequence[str]] = {key: [value] for key, value in (spec.get("nodeSelector") or {}).items()}
    for term in _affinity_terms(spec):
        for expression in term.get("matchExpressions") or ():
            if expression.get("operator") in {"In", "Exists"}:
                wanted.setdefault(expression["key"], expression.get("values") or ())
    return wanted


def _affinity_terms(spec: Object) -> Sequence[Object]:
    """The required terms of a pod's node affinity; one of them must match."""
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    return (affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get("nodeSelectorTerms") or ()


def _holds(expression: Object, labels: Mapping[str, str]) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values") or ()
    match expression.get("operator"):
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as operator if values and (value or "").isdecimal():
            return _COMPARED[operator](int(value or 0), int(values[0]))
    return False
