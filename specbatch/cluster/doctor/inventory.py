"""What there is for runs: nodes and GPUs, device plugin, storage, quotas, queues, the image."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal

from specbatch import __version__
from specbatch.api.job_section import JobSpec
from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Finding
from specbatch.cluster.diagnose.nodes import GPU_PRODUCT, device_resources
from specbatch.cluster.diagnose.quantities import listed, number
from specbatch.cluster.diagnose.rules.images import nodes_with
from specbatch.cluster.diagnose.rules.queues import queue_problem
from specbatch.cluster.diagnose.rules.storage import default_classes
from specbatch.cluster.doctor.server import found
from specbatch.cluster.manifests.pod_requests import amount
from specbatch.formatting import pluralize

USUAL_CLAIMS = ("specbatch-results", "specbatch-models")  # those of k8s/ and of the examples
_LEVEL = "pod-security.kubernetes.io/enforce"
_GPU = re.compile(r"gpu|mig-")
_PLUGIN = (
    "ask an admin about the device plugin there (kubectl get pods -A | grep -i device-plugin; or the GPU operator)"
)


def namespace(evidence: Evidence, _: Object) -> Iterator[Finding]:
    """Its Pod Security level."""
    if evidence.namespace is not None:
        level = (evidence.namespace["metadata"].get("labels") or {}).get(_LEVEL)
        yield found("namespace", f"{evidence.namespace_name}, Pod Security level {level or 'not enforced'}")


def nodes(evidence: Evidence, _: Object) -> Iterator[Finding]:
    """How many are ready."""
    out = sum(1 for node in evidence.nodes or () if not node.usable)
    ready = len(evidence.nodes or ()) - out
    said = f"{ready} ready" + (f", {out} cordoned or not ready" if out else "")
    if ready:
        yield found("nodes", said)
    elif out:
        yield found("nodes", said, "ask an admin, unless nodes come on demand", "error")


def gpus(evidence: Evidence, _: Object) -> Iterator[Finding]:
    """Products, how many, how many of them free, and whether the device plugin offers them all."""
    for resource in filter(_GPU.search, device_resources(evidence.nodes or ())):
        having = [node for node in evidence.nodes_with_pods or () if node.capacity(resource)]
        total = sum((node.capacity(resource) for node in having), Decimal(0))
        free = [node.free(resource) for node in having]
        left = "" if None in free else f", {number(resource, sum(filter(None, free), Decimal(0)))} free"
        largest = number(resource, max((node.capacity(resource) for node in having), default=Decimal(0)))
        products = Counter(
            f"{node.labels.get(GPU_PRODUCT, 'no product label')} x{number(resource, node.capacity(resource))}"
            for node in having
        )
        shown = listed([f"{pluralize(count, 'node')} with {product}" for product, count in products.most_common()])
        yield found("gpus", f"{number(resource, total)} {resource}{left}; at most {largest} in one pod ({shown})")
        for node in having:
            held = amount((node.node["status"].get("capacity") or {}).get(resource, 0)) - node.capacity(resource)
            if held > 0:
                said = f"node {node.name} holds back {number(resource, held)} {resource}: ill, most likely"
                yield found("device plugin", said, _PLUGIN, "warning")
    labelled = [node for node in evidence.nodes or () if node.labelled_gpu]
    silent = [node.name for node in labelled if not any(map(_GPU.search, device_resources([node])))]
    if silent:
        said = f"labels say that {listed(silent)} have GPUs, and none are offered"
        yield found("device plugin", said, _PLUGIN, "warning")


def classes(evidence: Evidence, _: Object) -> Iterator[Finding]:
    """Which storage classes there are, and the default one."""
    if evidence.classes is None:
        return
    names, default = [str(one["metadata"]["name"]) for one in evidence.classes], default_classes(evidence.classes)
    if default:
        yield found("storage classes", f"{listed(names)}; default {listed(default)}")
    else:
        said = f"{listed(names)}; none is the default" if names else "there is none"
        remedy = "name one in every claim: storageClassName; or publish results to object storage (results.publish)"
        yield found("storage classes", said, remedy, "warning")


def claims(evidence: Evidence, _: Object) -> Iterator[Finding]:
    """The claims that can be mounted."""
    for name, claim in (evidence.claims or {}).items():
        status = claim.get("status") or {}
        if status.get("phase") == "Bound" and "deletionTimestamp" not in claim["metadata"]:
            modes = ", ".join((claim.get("spec") or {}).get("accessModes") or ())
            size = (status.get("capacity") or {}).get("storage")
            yield found(f"claim {name}", ", ".join(filter(None, ("bound", modes, size))))


def quotas(evidence: Evidence, _: Object) -> Iterator[Finding]:
    """What the quotas of the namespace leave."""
    for quota in evidence.quotas:
        hard, used = ((quota.get("status") or {}).get(part) or {} for part in ("hard", "used"))
        said = listed([f"{name} {used.get(name, '0')} of {most}" for name, most in hard.items()], shown=8)
        yield found(f"quota {quota['metadata']['name']}", said)


def queues(evidence: Evidence, _: Object) -> Iterator[Finding]:
    """Kueue and its LocalQueues."""
    if evidence.kueue is None and evidence.kueue_readable:
        yield found("queues", "Kueue is not installed: leave spec.job.queueName out")
    for name, queue in evidence.local_queues.items():
        if problem := queue_problem(name, queue):
            yield found(f"queue {name}", problem.sentence, problem.remedy, problem.severity)
        else:
            waiting = (queue.get("status") or {}).get("pendingWorkloads") or 0
            yield found(f"queue {name}", f"active, {waiting} waiting")


def image(evidence: Evidence, pod: Object) -> Iterator[Finding]:
    """Whether nodes have the runner's image already, and whether it is of this version."""
    name = str(pod["spec"]["containers"][0].get("image") or JobSpec().image)
    tag = name.partition("@")[0].rpartition("/")[2].partition(":")[2]
    if re.match(r"v?\d+\.\d+", tag) and tag.removeprefix("v") != __version__:
        remedy = f"take the same version on both sides: pip install specbatch=={tag.removeprefix('v')}"
        yield found("image version", f"{name} is not of this specbatch ({__version__})", remedy, "warning")
    if evidence.nodes:
        having = len(nodes_with(evidence, name))
        yield found("image", f"{name}: on {having} of {len(evidence.nodes)} nodes, as far as they tell")
