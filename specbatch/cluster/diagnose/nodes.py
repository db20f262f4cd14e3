"""Nodes: what each has and what of it is free, whether it would take a pod as the scheduler sees it, and both in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.jobs.job_view import condition
from specbatch.cluster.manifests.pod_requests import ENDED, amount, is_extended, requests, summed
from specbatch.formatting import first_lines

GPU_PRODUCT = "nvidia.com/gpu.product"  # labels of NVIDIA's GPU feature discovery
_GPU_LABELS = ("nvidia.com/gpu.present", GPU_PRODUCT, "nvidia.com/gpu.count", "amd.com/gpu.product-name")
_BYTES = {"memory": "of memory", "ephemeral-storage": "of ephemeral storage"}
Requirement = tuple[str, str, Sequence[str]]
_ZERO = Decimal(0)
_KNOWN = {"cpu", "memory", "ephemeral-storage", "pods"}
# The operators of node affinity: whether a label's value (None where there is no such label) is as wanted.
_OPERATORS: Mapping[str, Callable[[str | None, Sequence[str]], bool]] = {
    "In": lambda value, wanted: value in wanted,
    "NotIn": lambda value, wanted: value not in wanted,
    "Exists": lambda value, _: value is not None,
    "DoesNotExist": lambda value, _: value is None,
    "Gt": lambda value, wanted: bool(wanted) and (value or "").isdecimal() and int(value or 0) > int(wanted[0]),
    "Lt": lambda value, wanted: bool(wanted) and (value or "").isdecimal() and int(value or 0) < int(wanted[0]),
}


class Node:
    """A node, what pods may have of it in all, and what those that are bound to it have requested.

    Args:
        node: the object.
        pods: those on it that have not ended; None where pods of other namespaces cannot be read.
    """

    def __init__(self, node: Object, pods: Sequence[Object] | None = None) -> None:
        spec, status = node.get("spec") or {}, node.get("status") or {}
        self.name = str(node["metadata"]["name"])
        self.labels: Mapping[str, str] = node["metadata"].get("labels") or {}
        self.taints: Sequence[Object] = spec.get("taints") or ()
        self.cordoned = bool(spec.get("unschedulable"))
        self.usable = condition(node, "Ready") is not None and not self.cordoned
        self.labelled_gpu = any(self.labels.get(label, "false") != "false" for label in _GPU_LABELS)
        self.allocatable, self.whole = (
            {name: amount(value) for name, value in (status.get(part) or {}).items()}
            for part in ("allocatable", "capacity")
        )
        self._requested = None if pods is None else summed([*(requests(pod["spec"]) for pod in pods), {"pods": Decimal(len(pods))}])  # fmt: skip

    def capacity(self, resource: str) -> Decimal:
        """What pods may have of a resource."""
        return self.allocatable.get(resource, _ZERO)

    def free(self, resource: str) -> Decimal | None:
        """What is not requested yet; None where that cannot be read."""
        return None if self._requested is None else self.capacity(resource) - self._requested.get(resource, _ZERO)

    def has(self, asked: Mapping[str, Decimal]) -> bool:
        """Whether it is large enough, were it empty."""
        return all(self.capacity(name) >= value for name, value in asked.items())

    def selected(self, spec: Object) -> bool:
        """Whether it has every label that a pod's spec requires."""
        labels = {**self.labels, "metadata.name": self.name}
        return any(
            all(
                operator in _OPERATORS and _OPERATORS[operator](labels.get(label), wanted)
                for label, operator, wanted in term
            )
            for term in requirements(spec)
        )

    def untolerated(self, spec: Object) -> list[Object]:
        """Its taints that keep a pod away; that of a cordoned node is not one of them."""
        return [
            taint
            for taint in self.taints
            if taint.get("effect") in {"NoSchedule", "NoExecute"}
            and taint.get("key") != "node.kubernetes.io/unschedulable"
            and not any(tolerates(one, taint) for one in spec.get("tolerations") or ())
        ]


def with_pods(nodes: Iterable[Object], pods: Iterable[Object] | None) -> list[Node]:
    """Each node with the pods on it that have not ended, in the order of their names."""
    bound: dict[str, list[Object]] = {}
    for pod in pods or ():
        if (pod.get("status") or {}).get("phase") not in ENDED and pod["spec"].get("nodeName"):
            bound.setdefault(pod["spec"]["nodeName"], []).append(pod)
    made = (Node(node, None if pods is None else bound.get(node["metadata"]["name"], [])) for node in nodes)
    return sorted(made, key=lambda node: node.name)


def device_resources(nodes: Iterable[Node]) -> list[str]:
    """The device resources that some node has."""
    return sorted({name for node in nodes for name in node.allocatable if is_extended(name)})


def tolerates(toleration: Object, taint: Object) -> bool:
    """Whether one toleration is for one taint."""
    if any(toleration.get(part) and toleration[part] != taint.get(part) for part in ("effect", "key")):
        return False
    if toleration.get("operator") == "Exists":
        return True
    return bool(toleration.get("key")) and (toleration.get("value") or "") == (taint.get("value") or "")


def requirements(spec: Object) -> list[list[Requirement]]:
    """What a pod's nodeSelector and node affinity require: one of several lists of (label, operator, values), of which all must hold.

    The field metadata.name counts as a label. An empty term matches nothing.
    """
    chosen: list[Requirement] = [(label, "In", [value]) for label, value in (spec.get("nodeSelector") or {}).items()]
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    terms = (affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get("nodeSelectorTerms") or ()
    parts = [[*(term.get("matchExpressions") or ()), *(term.get("matchFields") or ())] for term in terms]
    made = [[(one["key"], one.get("operator", ""), one.get("values") or ()) for one in part] for part in parts if part]
    return [[*chosen, *one] for one in made] if terms else [chosen]


def words_of(resource: str) -> tuple[str, str]:
    """A resource as causes name it, and the spec's field that asks for it."""
    if is_extended(resource):
        return "gpus", "spec.placement.gpus"
    known = resource in _KNOWN
    return resource if known else "resource", f"spec.job.resources{f'.requests.{resource}' if known else ''}"


def number(resource: str, value: Decimal) -> str:
    """Without the resource's name: 16, 2.5, 64 GiB."""
    if resource not in _BYTES:
        return f"{value.normalize():f}"
    gib = value / Decimal(2**30)
    return f"{gib.quantize(Decimal('0.1')).normalize():f} GiB" if gib >= 1 else f"{value / Decimal(2**20):.0f} MiB"


def text(resource: str, value: Decimal) -> str:
    """With its name: 16 nvidia.com/gpu, 2 cpu, 64 GiB of memory."""
    return f"{number(resource, value)} {_BYTES.get(resource, resource)}"


def node_lines(nodes: Iterable[Node], resource: str) -> list[str]:
    """`node a: 8 nvidia.com/gpu (NVIDIA-H100-80GB-HBM3), 3 free`, the largest first."""
    lines: list[str] = []
    for node in sorted(nodes, key=lambda node: (-node.capacity(resource), -(node.free(resource) or 0), node.name)):
        product = f" ({node.labels[GPU_PRODUCT]})" if is_extended(resource) and GPU_PRODUCT in node.labels else ""
        free = node.free(resource)
        left = "" if free is None else f", {number(resource, free)} free"
        lines.append(f"node {node.name}: {text(resource, node.capacity(resource))}{product}{left}")
    return first_lines(lines, 6)
