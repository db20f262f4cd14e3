"""Jobs that Kueue holds back.

Source: https://github.com/kubernetes-sigs/kueue (pkg/controller/core, pkg/scheduler/flavorassigner): the words of its conditions.
"""

from __future__ import annotations

import re
from dataclasses import replace

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.evidence import Evidence, Queue
from specbatch.cluster.diagnose.finding import Finding
from specbatch.cluster.jobs.job_view import condition

_LOCAL_MISSING = re.compile(r"LocalQueue (\S+) (?:doesn't exist|does not exist|is terminating or missing|not found)")
_CLUSTER_MISSING = re.compile(
    r"ClusterQueue (\S+) (?:doesn't exist|does not exist|is terminating or missing|not found)"
)
_STOPPED = re.compile(r"(LocalQueue|ClusterQueue) (\S+) is (stopped|inactive)")
_TOO_SMALL = (
    re.compile(r"insufficient quota for (\S+) in flavor \S+?,.*?\(([^()]+)\) > maximum capacity \(([^()]+)\)"),
    re.compile(
        r"insufficient quota for (\S+) in flavor \S+?, request > maximum capacity \((\S+) > (\S+)\)"
    ),  # Kueue before 0.12
)
_MORE_NEEDED = re.compile(r"insufficient (?:unused )?quota for (\S+) in flavor (\S+?)(?: in \w+)?, (\S+) more needed")
_NO_FLAVOR = re.compile(
    r"resource (\S+) unavailable in ClusterQueue|untolerated taint .*? in flavor \S+|flavor \S+ doesn't match node affinity|flavor \S+ not found"
)
_KEEPS_OUT = "kubectl get localqueues"


def held_by_queue(evidence: Evidence) -> Finding | None:
    """Why Kueue does not start the Job; None where it does, or has no part in it."""
    name, queue = evidence.view.queue, evidence.queue
    if name is None or queue is None or not evidence.view.suspended:
        return None
    if not queue.installed:
        return Finding(
            cause="kueue-missing",
            sentence=f"the Job waits for Kueue's queue {name}, but this cluster has no Kueue: nobody starts it",
            remedy="take spec.job.queueName out and submit again, or install Kueue",
        )
    workload = queue.workload or {}
    reserved = _conditioned(workload, "QuotaReserved")
    message = " ".join(str(reserved.get("message", "")).split())
    line = (f"workload {workload['metadata']['name']}: {reserved.get('reason')}: {message}",) if message else ()
    finding = (
        _missing(name, queue, message)
        or _stopped(name, queue, message)
        or _deactivated(workload)
        or _other_namespace(evidence, message)
        or _too_small(message)
        or _no_flavor(message)
        or _checks(workload)
        or _preempted(name, queue, workload)
        or _waiting(name, queue, message)
    )
    since = reserved.get("lastTransitionTime") or evidence.view.job["metadata"].get("creationTimestamp")
    return replace(finding, evidence=(*finding.evidence, *line), since=finding.since or since)


def _conditioned(thing: Object, kind: str) -> Object:
    conditions = (thing.get("status") or {}).get("conditions") or ()
    found: Object = next((one for one in conditions if one.get("type") == kind), {})
    return found


def _missing(name: str, queue: Queue, message: str) -> Finding | None:
    match = _CLUSTER_MISSING.search(message)
    inactive = _conditioned(queue.local_queue or {}, "Active")
    if match or inactive.get("reason") == "ClusterQueueDoesNotExist":
        of = match[1] if match else ((queue.local_queue or {}).get("spec") or {}).get("clusterQueue", "")
        return Finding(
            cause="cluster-queue-missing",
            sentence=f"the queue {name} belongs to ClusterQueue {of}, which does not exist",
            remedy=f"ask an admin to create it, or name another queue in spec.job.queueName ({_KEEPS_OUT})",
        )
    if _LOCAL_MISSING.search(message) or (queue.readable and queue.local_queue is None):
        return Finding(
            cause="queue-missing",
            sentence=f"the queue {name} does not exist in the namespace",
            remedy=f"correct spec.job.queueName ({_KEEPS_OUT} lists them) and submit again, or ask an admin to create it",
        )
    return None


def _stopped(name: str, queue: Queue, message: str) -> Finding | None:
    match = _STOPPED.search(message)
    local, cluster = queue.local_queue or {}, queue.cluster_queue or {}
    stopped = [
        f"{kind} {thing['metadata']['name']}"
        for kind, thing in (("LocalQueue", local), ("ClusterQueue", cluster))
        if (thing.get("spec") or {}).get("stopPolicy", "None") != "None"
    ]
    inactive = [
        one for one in (_conditioned(cluster, "Active"), _conditioned(local, "Active")) if one.get("status") == "False"
    ]
    if not (match or stopped or inactive):
        return None
    which = f"{match[1]} {match[2]}" if match else next(iter(stopped), f"LocalQueue {name}")
    held = bool(stopped) or (match is not None and match[3] == "stopped")
    return Finding(
        cause="queue-stopped" if held else "queue-inactive",
        sentence=f"{which} is {'stopped' if held else 'inactive'}: it admits no Jobs",
        remedy="ask an admin to start it again (stopPolicy: None); the Job then goes on by itself"
        if held
        else "ask an admin: kubectl describe clusterqueue says what is missing (a flavor, an admission check); the Job then goes on by itself",
        evidence=tuple(f"{one.get('reason')}: {one.get('message')}" for one in inactive),
    )


def _deactivated(workload: Object) -> Finding | None:
    if (workload.get("spec") or {}).get("active", True):
        return None
    evicted = _conditioned(workload, "Evicted") or _conditioned(workload, "DeactivationTarget")
    return Finding(
        cause="queue-deactivated",
        sentence="Kueue has taken the Job out of the queue"
        + (f": {evicted['message']}" if evicted.get("message") else ""),
        remedy=f'put it back: kubectl patch workload {workload["metadata"]["name"]} --type merge -p \'{{"spec": {{"active": true}}}}\'',
        since=evicted.get("lastTransitionTime"),
    )


def _other_namespace(evidence: Evidence, message: str) -> Finding | None:
    if "namespace" not in message or "match ClusterQueue" not in message:
        return None
    return Finding(
        cause="queue-namespace",
        sentence=f"the ClusterQueue does not serve namespace {evidence.view.namespace}",
        remedy="ask an admin to label the namespace as the ClusterQueue's namespaceSelector wants it, or take another queue",
    )


def _too_small(message: str) -> Finding | None:
    match = next(filter(None, (pattern.search(message) for pattern in _TOO_SMALL)), None)
    if match is None or _MORE_NEEDED.search(message):  # another flavor would do
        return None
    return Finding(
        cause="queue-too-small",
        sentence=f"the Job asks for {match[2]} {match[1]} at once, and its queue has {match[3]} in all: it will never start",
        remedy="lower spec.job.parallelism (pods at once) or spec.placement.gpus, or ask an admin for more quota",
    )


def _no_flavor(message: str) -> Finding | None:
    match = _NO_FLAVOR.search(message)
    if match is None or _MORE_NEEDED.search(message):
        return None
    if match[1]:
        sentence = f"the queue has no quota for {match[1]}"
        remedy = "ask an admin to add it to the ClusterQueue, or take what asks for it out of the spec"
    else:
        sentence = f"no flavor of the queue suits the pods: {match[0]}"
        remedy = "make spec.job.tolerations and spec.job.nodeSelector fit a flavor of the queue (kubectl get resourceflavors)"
    return Finding(cause="queue-no-flavor", sentence=sentence, remedy=remedy)


def _checks(workload: Object) -> Finding | None:
    """Quota is reserved, and something else must agree: a cluster that makes room first, another cluster."""
    open_checks = [
        one for one in (workload.get("status") or {}).get("admissionChecks") or () if one.get("state") != "Ready"
    ]
    if not open_checks or not condition(workload, "QuotaReserved"):
        return None
    check = open_checks[0]
    return Finding(
        cause="queue-admission-check",
        sentence=f"Kueue has the quota, and waits for its check {check.get('name')} ({check.get('state')})",
        remedy="wait: such a check makes nodes first; ask an admin if it is rejected",
        evidence=tuple(f"{one.get('name')}: {one.get('state')}: {one.get('message', '')}" for one in open_checks),
        since=check.get("lastTransitionTime"),
        mood="waiting",
    )


def _preempted(name: str, queue: Queue, workload: Object) -> Finding | None:
    evicted = condition(workload, "Evicted") if workload else None
    if evicted is None:
        return None
    preempted = condition(workload, "Preempted")
    by = preempted or evicted
    return Finding(
        cause="queue-preempted" if evicted.get("reason") == "Preempted" else "queue-evicted",
        sentence=f"Kueue has stopped the Job ({evicted.get('reason')}), and it waits in queue {name} again{_position(queue)}",
        remedy="wait: it starts again by itself and keeps its finished rows; a higher PriorityClass comes first",
        evidence=(f"{by.get('reason')}: {by.get('message')}",),
        since=evicted.get("lastTransitionTime"),
        mood="waiting",
    )


def _waiting(name: str, queue: Queue, message: str) -> Finding:
    needed = [f"{match[3]} {match[1]}" for match in _MORE_NEEDED.finditer(message)]
    if queue.workload is None and queue.readable:
        return Finding(
            cause="queue-silent",
            sentence=f"Kueue has not taken the Job into queue {name} yet",
            remedy="wait a minute; if it stays so, Kueue's controller does not run, or does not manage batch/job: ask an admin",
            mood="waiting",
        )
    missing = f"; missing now: {needed[0]}" if needed else ""
    return Finding(
        cause="queue-waiting",
        sentence=f"the Job waits in Kueue's queue {name}{_position(queue)}{missing}",
        remedy="wait: it starts by itself; ask for less at once (job.parallelism, placement.gpus) or take a higher PriorityClass to start sooner",
        mood="waiting",
    )


def _position(queue: Queue) -> str:
    """How many of the namespace's Workloads come first: by priority, then by age."""
    if queue.workload is None:
        return ""
    mine = _rank(queue.workload)
    before = sum(1 for one in queue.pending if _rank(one) < mine)
    among = ((queue.cluster_queue or {}).get("status") or {}).get("pendingWorkloads")
    of = f" (of {among} that wait in its ClusterQueue)" if among else ""
    return f", {'first' if before == 0 else f'behind {before} more'}{of}"


def _rank(workload: Object) -> tuple[int, str, str]:
    metadata = workload["metadata"]
    return (
        -int((workload.get("spec") or {}).get("priority") or 0),
        str(metadata.get("creationTimestamp", "")),
        str(metadata["name"]),
    )
