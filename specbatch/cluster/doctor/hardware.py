"""GPU nodes: which products, how many GPUs, how many of them free, and whether the device plugin offers them all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal

from specbatch.cluster.diagnose.amounts import listed, number
from specbatch.cluster.doctor.checkup import Result, Visit
from specbatch.cluster.manifests.pod_requests import amount
from specbatch.cluster.preflight.nodes import GPU_PRODUCT, Node, extended_resources, read_nodes

_DEFAULT = "nvidia.com/gpu"
_GPU_WORDS = ("gpu", "mig-")
_PLUGIN = (
    "ask an admin about the device plugin there (kubectl get pods -A | grep -i device-plugin; or the GPU operator)"
)


def check_nodes(visit: Visit) -> Iterator[Result]:
    """Nodes, GPUs, device plugin."""
    nodes, unseen = read_nodes(visit.cluster)
    if nodes is None:
        yield Result("nodes", "not checked", "not permitted to look at nodes")
        return
    ready = [node for node in nodes if node.ready and not node.cordoned]
    if not ready:
        said = f"none of {len(nodes)} nodes is ready" if nodes else "there is none"
        yield Result("nodes", "failed", said, "ask an admin, unless nodes come on demand")
    else:
        out = len(nodes) - len(ready)
        yield Result("nodes", "ok", f"{len(ready)} ready" + (f", {out} cordoned or not ready" if out else ""))
    resource = visit.job.spec.job.gpu_resource_name if visit.job else _DEFAULT
    found = [name for name in extended_resources(nodes) if any(word in name for word in _GPU_WORDS)]
    for name in [*(name for name in (resource,) if name in found), *(name for name in found if name != resource)]:
        yield _gpus([node for node in nodes if node.capacity(name)], name, "; ".join(unseen))
    if resource not in found:
        yield _no_gpus(visit, resource, found)
    yield from _plugin(nodes, resource if resource in found else next(iter(found), resource))


def _gpus(nodes: Sequence[Node], resource: str, unseen: str) -> Result:
    total = sum((node.capacity(resource) for node in nodes), Decimal(0))
    free = [node.free(resource) for node in nodes]
    left = sum((value for value in free if value is not None), Decimal(0))
    said = f", {number(resource, left)} free" if None not in free else f" (not permitted: {unseen})"
    products = Counter(
        f"{node.labels.get(GPU_PRODUCT, 'no product label')} x{number(resource, node.capacity(resource))}"
        for node in nodes
    )
    shown = listed(
        [f"{count} node{'s' if count > 1 else ''} with {product}" for product, count in products.most_common()]
    )
    largest = max(node.capacity(resource) for node in nodes)
    return Result(
        "gpus",
        "ok",
        f"{number(resource, total)} {resource}{said}; at most {number(resource, largest)} in one pod ({shown})",
    )


def _no_gpus(visit: Visit, resource: str, found: Sequence[str]) -> Result:
    asked = visit.job.spec.placement.gpus if visit.job else 0
    if found:
        remedy = f"set spec.job.gpuResourceName to one of them: {listed(found)}"
    else:
        remedy = "add GPU nodes and their device plugin, unless they come on demand; without, placement.gpus: 0 runs on the CPU"
    return Result("gpus", "failed" if asked else "warning", f"no node offers {resource}", remedy)


def _plugin(nodes: Sequence[Node], resource: str) -> Iterator[Result]:
    """Nodes that are labelled as having GPUs but offer none, and GPUs that the plugin holds back as ill."""
    silent = [
        node.name for node in nodes if node.labelled_gpu and not node.capacity(resource) and not _offers_any(node)
    ]
    ill = [(node, _missing(node, resource)) for node in nodes if _missing(node, resource) > 0]
    if silent:
        yield Result(
            "device plugin", "warning", f"labels say that {listed(silent)} have GPUs, and none are offered", _PLUGIN
        )
    for node, count in ill:
        yield Result(
            "device plugin",
            "warning",
            f"node {node.name} holds back {number(resource, count)} {resource}: ill, most likely",
            _PLUGIN,
        )
    if not silent and not ill and any(node.capacity(resource) for node in nodes):
        yield Result("device plugin", "ok", f"offers every {resource} of its nodes")


def _offers_any(node: Node) -> bool:
    return any(any(word in name for word in _GPU_WORDS) for name in extended_resources([node]) if node.capacity(name))


def _missing(node: Node, resource: str) -> Decimal:
    return amount((node.node.get("status", {}).get("capacity") or {}).get(resource, 0)) - node.capacity(resource)
