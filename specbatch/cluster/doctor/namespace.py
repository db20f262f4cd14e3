"""The namespace: there, its Pod Security level, its quotas, its queues."""

from __future__ import annotations

from collections.abc import Iterator

from specbatch.cluster.client.kinds import NAMESPACES, QUOTAS, Object
from specbatch.cluster.client.kueue import kueue_kinds
from specbatch.cluster.diagnose.amounts import listed
from specbatch.cluster.doctor.checkup import Result, Visit
from specbatch.cluster.jobs.job_view import condition
from specbatch.cluster.manifests.pod_requests import amount

_ENFORCE = "pod-security.kubernetes.io/enforce"
_FORBID_HOST_PATH = {"restricted", "baseline"}


def check_namespace(visit: Visit) -> Iterator[Result]:
    """Whether it is there, and what its Pod Security level refuses."""
    name = visit.cluster.namespace
    namespace = visit.cluster.find(NAMESPACES, name)
    if namespace is None:
        yield Result(
            "namespace", "failed", f"{name} does not exist", f"kubectl create namespace {name}, or name another with -n"
        )
        return
    if (namespace.get("status") or {}).get("phase") == "Terminating":
        yield Result("namespace", "failed", f"{name} is being deleted", "name another with -n")
        return
    level = (namespace["metadata"].get("labels") or {}).get(_ENFORCE)
    said = (
        f"{name}, Pod Security level {level}: runs pass it" if level else f"{name}, no Pod Security level is enforced"
    )
    mounts = (
        [volume.host_path for volume in visit.job.spec.job.volumes.all().values() if volume.host_path]
        if visit.job
        else []
    )
    if level in _FORBID_HOST_PATH and mounts:
        remedy = "take a claim instead of hostPath in spec.job.volumes"
        yield Result(
            "namespace", "failed", f"its Pod Security level {level} refuses hostPath ({listed(mounts)})", remedy
        )
    else:
        yield Result("namespace", "ok", said)


def check_quotas(visit: Visit) -> Iterator[Result]:
    """What they leave; what the spec asks for at once must fit."""
    quotas = visit.cluster.list(QUOTAS)
    for quota in quotas:
        status = quota.get("status") or {}
        hard, used = status.get("hard") or {}, status.get("used") or {}
        said = listed([f"{name} {used.get(name, '0')} of {most}" for name, most in hard.items()], shown=8)
        full = [name for name, most in hard.items() if amount(used.get(name, 0)) >= amount(most)]
        over = [name for name in _pod_asks(visit) if name in hard and amount(hard[name]) < _pod_asks(visit)[name]]
        name = f"quota {quota['metadata']['name']}"
        if over:
            yield Result(
                name,
                "failed",
                f"one pod asks for more {listed(over)} than it allows: {said}",
                "ask for less, or ask an admin to raise it",
            )
        elif full:
            yield Result(
                name,
                "warning",
                f"{said}: used up",
                "pods wait until others of the namespace end; or ask an admin to raise it",
            )
        else:
            yield Result(name, "ok", said)
    if not quotas:
        yield Result("quotas", "ok", "none")


def check_queues(visit: Visit) -> Iterator[Result]:
    """Kueue and its LocalQueues; a spec's own is checked with the spec."""
    kinds = kueue_kinds(visit.cluster)
    if kinds is None:
        yield Result("queues", "ok", "Kueue is not installed: leave spec.job.queueName out")
        return
    queues = visit.cluster.list(kinds.local_queues)
    if not queues:
        yield Result("queues", "ok", "Kueue is installed, and the namespace has no LocalQueue")
    for queue in queues:
        name = f"queue {queue['metadata']['name']}"
        if _active(queue):
            yield Result(name, "ok", f"active, {int((queue.get('status') or {}).get('pendingWorkloads') or 0)} waiting")
        else:
            yield Result(name, "warning", "is stopped or inactive: it admits no Jobs", "ask whoever runs the queue")


def _active(queue: Object) -> bool:
    stopped = (queue.get("spec") or {}).get("stopPolicy", "None") != "None"
    told = (queue.get("status") or {}).get("conditions")
    return not stopped and (not told or condition(queue, "Active") is not None)


def _pod_asks(visit: Visit) -> dict[str, int]:
    """Of the quota's resources, those of which a pod's need is known from the spec."""
    if visit.job is None or not visit.job.spec.placement.gpus:
        return {}
    return {f"requests.{visit.job.spec.job.gpu_resource_name}": visit.job.spec.placement.gpus}
