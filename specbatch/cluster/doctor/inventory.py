"""What there is for runs: an API server that has and permits what they need, nodes and GPUs, storage, quotas, queues, the image."""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from importlib.metadata import PackageNotFoundError, version

from specbatch import __version__
from specbatch.cluster.client.kinds import CLAIMS, CONFIG_MAPS, NAMESPACES, QUOTAS, STORAGE_CLASSES, Object
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Finding, Severity, listed
from specbatch.cluster.diagnose.nodes import GPU_PRODUCT, Node, device_resources, number
from specbatch.cluster.diagnose.rules.queues import local_queues, queue_problem
from specbatch.cluster.diagnose.table import Rule
from specbatch.cluster.jobs.timestamps import seconds_of
from specbatch.cluster.manifests.names import CONTAINER
from specbatch.cluster.preflight.permissions import (
    HELPFUL,
    OF_KUEUE,
    all_needed,
    check_permissions,
    listed_rights,
    missing,
)
from specbatch.errors import ClusterError
from specbatch.formatting import pluralize, rough_duration

_OLDEST_WORKING, _OLDEST_TESTED, _NEWEST_TESTED = (1, 29), (1, 30), (1, 37)
_SKEW_SECONDS = 30.0
_DEFAULT = ("storageclass.kubernetes.io/is-default-class", "true")  # annotation
_LEVEL = "pod-security.kubernetes.io/enforce"
_GPU = re.compile(r"gpu|mig-")
_ZERO = Decimal(0)


def found(subject: str, sentence: str, remedy: str = "", severity: Severity = "ok") -> Finding:
    """What one look has shown; its subject is the cause."""
    cause = subject.replace(" ", "-")
    return Finding(cause=cause, subject=subject, sentence=sentence, remedy=remedy, severity=severity)


def server(evidence: Evidence, _: Object) -> Iterator[Finding]:
    """The versions of what runs here, and of the API server."""
    with suppress(PackageNotFoundError):
        python, client = ".".join(map(str, sys.version_info[:3])), version("kubernetes")
        yield found("versions", f"specbatch {__version__}, Python {python}, kubernetes client {client}")
    cluster, said = evidence.cluster, evidence.cluster.version()
    yield found("api", f"{cluster.server} (context {cluster.context}, namespace {cluster.namespace})")
    served = tuple(map(int, re.findall(r"\d+", said)[:2]))
    remedy = "use Kubernetes 1.30 to 1.37: podFailurePolicy and backoffLimitPerIndex are needed"
    if len(served) < 2:
        yield found("kubernetes", f"version {said or '?'} is of no known form", remedy, "warning")
    elif served < _OLDEST_TESTED:
        severity: Severity = "warning" if served >= _OLDEST_WORKING else "error"
        yield found("kubernetes", f"{said} is older than what is tested", remedy, severity)
    else:
        newer = " (newer than what is tested: 1.30 to 1.37)" if served > _NEWEST_TESTED else ""
        yield found("kubernetes", f"{said}{newer}")


def clock(evidence: Evidence, _: Object) -> Iterator[Finding]:
    """This machine's clock against the API server's, by an object that is never stored."""
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "specbatch-doctor"}}
    before, there = time.time(), None
    with suppress(ClusterError):
        made = evidence.cluster.create(CONFIG_MAPS, body, dry_run=True)
        there = seconds_of(made["metadata"].get("creationTimestamp"))
    if there is None:
        yield found("clock", "the API server does not tell its time", severity="unchecked")
        return
    # It tells whole seconds, and somewhere between asking and answer.
    skew = max(there - time.time(), before - there - 1.0, 0.0)
    if skew > _SKEW_SECONDS:
        said = f"this machine and the API server are {rough_duration(skew)} apart"
        yield found("clock", said, "set the clock (NTP): ages and times of logs are wrong", "warning")
    else:
        yield found("clock", "agrees with the API server's")


def permissions(evidence: Evidence, _: Object) -> Iterator[Finding]:
    """Everything that the commands do, and what would make answers better."""
    kueue = evidence.kueue is not None or (not evidence.kueue_readable and evidence.view.queue is not None)
    unseen, words = missing(evidence.cluster, HELPFUL), evidence.words
    lacking = list(check_permissions(evidence.cluster, [*all_needed(), *(OF_KUEUE if kueue else ())]))
    if unseen is None:
        yield found("permissions", "the cluster does not say what is permitted", severity="unchecked")
    elif lacking:
        yield replace(lacking[0], subject="permissions")
    else:
        yield found("permissions", f"every command may do its work in namespace {words['namespace']}")
    if unseen:
        more = f"why and doctor say more with it: {words['kubectl_all']} apply -k k8s/components/cluster-reader"
        yield found("cluster-wide", f"not permitted, and not needed: {listed_rights(unseen)}", more)
    elif unseen is not None:
        yield found("cluster-wide", "nodes, storage classes and the like may be read")


def nodes(evidence: Evidence, _: Object) -> Iterator[Finding]:
    """Nodes in service; products, how many, how many of them free, and whether the device plugin offers them all."""
    every = evidence.nodes or ()
    ready = sum(1 for node in every if node.usable)
    out = f", {len(every) - ready} cordoned or not ready" if ready < len(every) else ""
    if ready:
        yield found("nodes", f"{ready} ready{out}")
    elif every:
        yield found("nodes", f"0 ready{out}", "ask an admin, unless nodes come on demand", "error")
    remedy = f"ask an admin about the device plugin there ({evidence.words['kubectl_all']} get pods -A | grep -i device-plugin; or the GPU operator)"
    for resource in filter(_GPU.search, device_resources(every)):
        having = [node for node in evidence.nodes_with_pods if node.capacity(resource)]
        yield found("gpus", _gpus_text(resource, having))
        for node in having:
            held = node.whole.get(resource, _ZERO) - node.capacity(resource)
            if held > 0:
                said = f"node {node.name} holds back {number(resource, held)} {resource}: ill, most likely"
                yield found("device plugin", said, remedy, "warning")
    silent = [one.name for one in every if one.labelled_gpu and not any(map(_GPU.search, device_resources([one])))]
    if silent:
        said = f"labels say that {listed(silent)} have GPUs, and none are offered"
        yield found("device plugin", said, remedy, "warning")


def _gpus_text(resource: str, nodes: Sequence[Node]) -> str:
    capacities, free = [node.capacity(resource) for node in nodes], [node.free(resource) for node in nodes]
    labels = [node.labels.get(GPU_PRODUCT, "no product label") for node in nodes]
    products = Counter(f"{label} x{number(resource, one)}" for label, one in zip(labels, capacities, strict=True))
    shown = listed(f"{pluralize(count, 'node')} with {product}" for product, count in products.most_common())
    left = "" if None in free else f", {number(resource, sum(filter(None, free), _ZERO))} free"
    total, most = number(resource, sum(capacities, _ZERO)), number(resource, max(capacities))
    return f"{total} {resource}{left}; at most {most} in one pod ({shown})"


def objects(evidence: Evidence, _: Object) -> Iterator[Finding]:
    """The namespace's Pod Security level, storage classes, the claims that can be mounted, and what the quotas leave."""
    if there := evidence.find(NAMESPACES, evidence.words["namespace"]):
        level = (there["metadata"].get("labels") or {}).get(_LEVEL, "not enforced")
        yield found("namespace", f"{there['metadata']['name']}, Pod Security level {level}")
    every = evidence.by_name(STORAGE_CLASSES)
    default = [name for name, one in every.items() if _DEFAULT in (one["metadata"].get("annotations") or {}).items()]
    if default:
        yield found("storage classes", f"{listed(every)}; default {listed(default)}")
    elif evidence.every(STORAGE_CLASSES) is not None:
        said = f"{listed(every)}; none is the default" if every else "there is none"
        remedy = "name one in every claim: storageClassName; or publish results to object storage (results.publish)"
        yield found("storage classes", said, remedy, "warning")
    for name, claim in evidence.by_name(CLAIMS).items():
        status, modes = claim.get("status") or {}, (claim.get("spec") or {}).get("accessModes") or ()
        if status.get("phase") == "Bound" and "deletionTimestamp" not in claim["metadata"]:
            size = (status.get("capacity") or {}).get("storage")
            yield found(f"claim {name}", ", ".join(filter(None, ("bound", *modes, size))))
    for name, quota in evidence.by_name(QUOTAS).items():
        hard, used = ((quota.get("status") or {}).get(part) or {} for part in ("hard", "used"))
        said = listed([f"{one} {used.get(one, '0')} of {most}" for one, most in hard.items()], shown=8)
        yield found(f"quota {name}", said)


def queues(evidence: Evidence, _: Object) -> Iterator[Finding]:
    """Kueue and its LocalQueues."""
    if evidence.kueue is None and evidence.kueue_readable:
        yield found("queues", "Kueue is not installed: leave spec.job.queueName out")
    for name, queue in local_queues(evidence).items():
        if problem := queue_problem(evidence, name, queue):
            yield found(f"queue {name}", problem.sentence, problem.remedy, problem.severity)
        else:
            waiting = (queue.get("status") or {}).get("pendingWorkloads") or 0
            yield found(f"queue {name}", f"active, {waiting} waiting")


def image(_: Evidence, pod: Object) -> Iterator[Finding]:
    """Whether the runner's image is of this version."""
    name = str(next(one for one in pod["spec"]["containers"] if one["name"] == CONTAINER).get("image"))
    tag = name.partition("@")[0].rpartition("/")[2].partition(":")[2].removeprefix("v")
    if re.match(r"\d+\.\d+", tag) and tag != __version__:
        remedy = f"take the same version on both sides: pip install specbatch=={tag}"
        yield found("image", f"{name} is not of this specbatch ({__version__})", remedy, "warning")
    else:
        yield found("image", name)


LOOKS: Sequence[tuple[str, Rule]] = (
    ("clock", clock),
    ("permissions", permissions),
    ("nodes", nodes),
    ("namespace", objects),
    ("queues", queues),
    ("image", image),
)
