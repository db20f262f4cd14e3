"""Resources in words: 16 nvidia.com/gpu, 64 GiB of memory, and how much of them each node has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

from specbatch.cluster.diagnose.nodes import GPU_PRODUCT, Node
from specbatch.cluster.manifests.pod_requests import is_extended

_GIB = Decimal(2**30)
_BYTES = {"memory": "of memory", "ephemeral-storage": "of ephemeral storage"}
_KNOWN = {"cpu", "memory", "ephemeral-storage", "pods"}
_NODES_SHOWN = 6


def cause_word(resource: str) -> str:
    """As causes name it: gpus, cpu, memory, ephemeral-storage, pods, or resource."""
    return "gpus" if is_extended(resource) else resource if resource in _KNOWN else "resource"


def spec_field(resource: str) -> str:
    """The spec's field that asks for it."""
    if is_extended(resource):
        return "spec.placement.gpus"
    return f"spec.job.resources.requests.{resource}" if resource in _KNOWN else "spec.job.resources"


def number(resource: str, value: Decimal) -> str:
    """Without the resource's name: 16, 2.5, 64 GiB."""
    if resource not in _BYTES:
        return f"{value.normalize():f}"
    gib = value / _GIB
    return f"{gib.quantize(Decimal('0.1')).normalize():f} GiB" if gib >= 1 else f"{value / Decimal(2**20):.0f} MiB"


def text(resource: str, value: Decimal) -> str:
    """With its name: 16 nvidia.com/gpu, 2 cpu, 64 GiB of memory."""
    return f"{number(resource, value)} {_BYTES.get(resource, resource)}"


def listed(names: Sequence[str], shown: int = 5) -> str:
    """`a, b and 3 more`."""
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def node_lines(nodes: Iterable[Node], resource: str) -> list[str]:
    """`node a: 8 nvidia.com/gpu (NVIDIA-H100-80GB-HBM3), 3 free`, the largest first."""
    ranked = sorted(nodes, key=lambda node: (-node.capacity(resource), -(node.free(resource) or 0), node.name))
    lines: list[str] = []
    for node in ranked[:_NODES_SHOWN]:
        product = f" ({node.labels[GPU_PRODUCT]})" if is_extended(resource) and GPU_PRODUCT in node.labels else ""
        free = node.free(resource)
        left = "" if free is None else f", {number(resource, free)} free"
        lines.append(f"node {node.name}: {text(resource, node.capacity(resource))}{product}{left}")
    return [*lines, f"and {len(ranked) - _NODES_SHOWN} more nodes"] if len(ranked) > _NODES_SHOWN else lines
