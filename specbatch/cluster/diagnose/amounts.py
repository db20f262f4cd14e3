"""Resources in words: 16 GPUs, 64 GiB of memory, and how much of them each node has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.manifests.pod_requests import is_extended, requests
from specbatch.cluster.preflight.nodes import GPU_PRODUCT, Node

_GIB = Decimal(2**30)
_BYTES = {"memory": "of memory", "ephemeral-storage": "of ephemeral storage"}
_WORDS = {"cpu": "cpu", "memory": "memory", "ephemeral-storage": "ephemeral-storage", "pods": "pods"}
_FIELDS = {
    "cpu": "spec.job.resources.requests.cpu",
    "memory": "spec.job.resources.requests.memory",
    "ephemeral-storage": "spec.job.resources.requests.ephemeral-storage",
}
_NODES_SHOWN = 6
_HOLDERS_SHOWN = 4


def word_of(resource: str) -> str:
    """As causes name it: gpus, cpu, memory, ephemeral-storage, pods, or resource."""
    return "gpus" if is_extended(resource) else _WORDS.get(resource, "resource")


def field_of(resource: str) -> str:
    """The spec's field that asks for it."""
    return "spec.placement.gpus" if is_extended(resource) else _FIELDS.get(resource, "spec.job.resources")


def number(resource: str, value: Decimal) -> str:
    """Without the resource's name: 16, 2.5, 64 GiB."""
    if resource not in _BYTES:
        return f"{value.normalize():f}"
    gib = value / _GIB
    return f"{gib.quantize(Decimal('0.1')).normalize():f} GiB" if gib >= 1 else f"{value / Decimal(2**20):.0f} MiB"


def text(resource: str, value: Decimal) -> str:
    """With its name: 16 nvidia.com/gpu, 2 cpu, 64 GiB of memory."""
    return f"{number(resource, value)} {_BYTES.get(resource, resource)}"


def node_lines(nodes: Iterable[Node], resource: str) -> list[str]:
    """What nodes have of a resource, the largest first."""
    ranked = sorted(nodes, key=lambda node: (-node.capacity(resource), -(node.free(resource) or 0), node.name))
    lines = [node_line(node, resource) for node in ranked[:_NODES_SHOWN]]
    return [*lines, f"and {len(ranked) - _NODES_SHOWN} more nodes"] if len(ranked) > _NODES_SHOWN else lines


def node_line(node: Node, resource: str) -> str:
    """`node a: 8 nvidia.com/gpu (NVIDIA-H100-80GB-HBM3), 3 free`."""
    product = f" ({node.labels[GPU_PRODUCT]})" if is_extended(resource) and GPU_PRODUCT in node.labels else ""
    free = node.free(resource)
    left = "" if free is None else f", {number(resource, free)} free"
    return f"node {node.name}: {text(resource, node.capacity(resource))}{product}{left}"


def holders(nodes: Iterable[Node], resource: str) -> list[str]:
    """Who holds a resource on nodes, the most first: pods by name, without those of several nodes being repeated."""
    held: Counter[str] = Counter()
    for node in nodes:
        for pod in node.pods or ():
            value = requests(pod["spec"]).get(resource, Decimal(0))
            if value:
                held[_owner(pod)] += int(value)
    shown = [f"{owner} holds {count} {resource}" for owner, count in held.most_common(_HOLDERS_SHOWN)]
    return [*shown, f"and {len(held) - _HOLDERS_SHOWN} more hold some"] if len(held) > _HOLDERS_SHOWN else shown


def listed(names: Sequence[str], shown: int = 5) -> str:
    """`a, b and 3 more`."""
    if len(names) > shown:
        return f"{', '.join(names[:shown])} and {len(names) - shown} more"
    return ", ".join(names)


def _owner(pod: Object) -> str:
    """Pods of one owner count together."""
    metadata = pod["metadata"]
    owner = next(iter(metadata.get("ownerReferences") or ()), None)
    name = f"{owner['kind']} {owner['name']}" if owner else f"Pod {metadata['name']}"
    return f"{name} (namespace {metadata.get('namespace', 'default')})"
