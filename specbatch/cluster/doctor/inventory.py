"""What there is for runs: nodes and GPUs, device plugin, storage, quotas, queues, the image."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal

from specbatch import __version__
from specbatch.api.job_section import JobSpec
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Finding
from specbatch.cluster.diagnose.nodes import GPU_PRODUCT, Node, device_resources
from specbatch.cluster.diagnose.quantities import listed, number
from specbatch.cluster.diagnose.rules.images import nodes_with
from specbatch.cluster.diagnose.rules.queues import queue_problem
from specbatch.cluster.diagnose.rules.storage import default_classes
from specbatch.cluster.doctor.server import found
from specbatch.cluster.manifests.pod_requests import amount

_LEVEL = "pod-security.kubernetes.io/enforce"
_GPU_WORDS = ("gpu", "mig-")
_PLUGIN = (
    "ask an admin about the device plugin there (kubectl get pods -A | grep -i device-plugin; or the GPU operator)"
)


def namespace(evidence: Evidence) -> Iterator[Finding]:
    """Its Pod Security level."""
    if evidence.namespace is not None:
        level = (evidence.namespace["metadata"].get("labels") or {}).get(_LEVEL)
        said = f"Pod Security level {level}: runs pass it" if level else "no Pod Security level is enforced"
        yield found("namespace", f"{evidence.namespace_name}, {said}")


def nodes(evidence: Evidence) -> Iterator[Finding]:
    """Nodes and their devices: products, how many, how many of them free, and whether the device plugin offers them all."""
    if not evidence.nodes:
        return
    out = sum(1 for node in evidence.nodes if not node.usable)
    ready = f"{len(evidence.nodes) - out} ready" + (f", {out} cordoned or not ready" if out else "")
    if out == len(evidence.nodes):
        yield found("nodes", ready, "ask an admin, unless nodes come on demand", "error")
    else:
        yield found("nodes", ready)
    for resource in _gpu_resources(evidence.nodes):
        having = [node for node in evidence.nodes_with_pods or () if node.capacity(resource)]
        total, free = sum(node.capacity(resource) for node in having), [node.free(resource) for node in having]
        left = sum((value for value in free if value is not None), Decimal(0))
        products = Counter(
            f"{node.labels.get(GPU_PRODUCT, 'no product label')} x{number(resource, node.capacity(resource))}"
            for node in having
        )
        shown = [f"{count} node{'s' if count > 1 else ''} with {product}" for product, count in products.most_common()]
        largest = max(node.capacity(resource) for node in having)
        yield found(
            "gpus",
            f"{number(resource, Decimal(total))} {resource}{'' if None in free else f', {number(resource, left)} free'}; "
            f"at most {number(resource, largest)} in one pod ({listed(shown)})",
        )
        for node in having:
            capacity = amount((node.node["status"].get("capacity") or {}).get(resource, 0))
            if capacity > node.capacity(resource):
                held = number(resource, capacity - node.capacity(resource))
                said = f"node {node.name} holds back {held} {resource}: ill, most likely"
                yield found("device plugin", said, _PLUGIN, "warning")
    silent = [node.name for node in evidence.nodes if node.labelled_gpu and not _gpu_resources([node])]
    if silent:
        said = f"labels say that {listed(silent)} have GPUs, and none are offered"
        yield found("device plugin", said, _PLUGIN, "warning")


def storage(evidence: Evidence) -> Iterator[Finding]:
    """Storage classes, and the claims of the namespace."""
    if evidence.classes is not None:
        names, default = [str(one["metadata"]["name"]) for one in evidence.classes], default_classes(evidence.classes)
        if not names:
            remedy = "claims need volumes that an admin makes by hand; or publish results to object storage (results.publish)"
            yield found("storage classes", "there is none", remedy, "warning")
        elif not default:
            remedy = "name one in every claim: storageClassName"
            yield found("storage classes", f"{listed(names)}; none is the default", remedy, "warning")
        else:
            yield found("storage classes", f"{listed(names)}; default {listed(default)}")
    for name, claim in (evidence.claims or {}).items():
        if (claim.get("status") or {}).get("phase") == "Bound" and "deletionTimestamp" not in claim["metadata"]:
            modes = ", ".join((claim.get("spec") or {}).get("accessModes") or ())
            size = ((claim.get("status") or {}).get("capacity") or {}).get("storage")
            yield found(f"claim {name}", ", ".join(filter(None, ("bound", modes, size))))


def quotas(evidence: Evidence) -> Iterator[Finding]:
    """What the quotas of the namespace leave."""
    for quota in evidence.quotas:
        status = quota.get("status") or {}
        hard, used = status.get("hard") or {}, status.get("used") or {}
        said = listed([f"{name} {used.get(name, '0')} of {most}" for name, most in hard.items()], shown=8)
        yield found(f"quota {quota['metadata']['name']}", said)


def queues(evidence: Evidence) -> Iterator[Finding]:
    """Kueue and its LocalQueues."""
    if evidence.kueue is None:
        if evidence.kueue_readable:
            yield found("queues", "Kueue is not installed: leave spec.job.queueName out")
    elif not evidence.local_queues:
        yield found("queues", "Kueue is installed, and the namespace has no LocalQueue")
    for name, queue in evidence.local_queues.items():
        waiting = int((queue.get("status") or {}).get("pendingWorkloads") or 0)
        problem = queue_problem(name, queue)
        if problem is not None:
            yield found(f"queue {name}", problem.sentence, problem.remedy, problem.severity)
        else:
            yield found(f"queue {name}", f"active, {waiting} waiting")


def image(evidence: Evidence) -> Iterator[Finding]:
    """Whether nodes have the runner's image already, and whether it is of this version."""
    [container, *_] = evidence.view.job["spec"]["template"]["spec"]["containers"]
    name = str(container.get("image") or JobSpec().image)
    tag = name.partition("@")[0].rpartition("/")[2].partition(":")[2]
    if re.match(r"v?\d+\.\d+", tag) and tag.removeprefix("v") != __version__:
        remedy = f"take the same version on both sides: pip install specbatch=={tag.removeprefix('v')}"
        yield found("image version", f"{name} is not of this specbatch ({__version__})", remedy, "warning")
    if evidence.nodes is not None:
        having = nodes_with(evidence, name)
        pulled = "" if having else ", as far as they tell; the first pod of a node pulls it"
        yield found("image", f"{name}: on {len(having)} of {len(evidence.nodes)} nodes{pulled}")


def _gpu_resources(nodes: Iterable[Node]) -> list[str]:
    offered = device_resources(nodes)
    return [name for name in offered if any(word in name for word in _GPU_WORDS)]


PARTS: Mapping[str, Callable[[Evidence], Iterator[Finding]]] = {
    "namespace": namespace,
    "nodes": nodes,
    "storage": storage,
    "quotas": quotas,
    "queues": queues,
    "image": image,
}
"""Each with the name of what is not checked where it is refused."""
