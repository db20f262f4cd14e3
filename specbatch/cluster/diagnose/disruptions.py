"""Pods that ended through no fault of theirs: evicted, preempted, drained, lost with their node, refused by it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.finding import Finding
from specbatch.cluster.jobs.job_view import condition
from specbatch.cluster.status.pod_state import node_of

_AGAIN = "nothing: the pod is started again by itself, the try does not count, and its finished rows are kept"
_LOW = re.compile(r"low on resource: ([\w-]+)")
_LIMIT = re.compile(
    r'Usage of EmptyDir volume "([^"]+)" exceeds the limit "([^"]+)"'
    r'|(?:Container \S+ exceeded its|Pod) (?:local ephemeral storage|ephemeral local storage usage exceeds the total) limit (?:of containers )?"?([^".\s]+)'
)
_DISRUPTIONS: Mapping[str, tuple[str, str]] = {
    "PreemptionByScheduler": ("preempted", "the pod had to make room for one of a higher priority"),
    "EvictionByEvictionAPI": ("drained", "the pod was evicted: its node is being drained, or somebody asked for it"),
    "DeletionByTaintManager": ("node-lost", "the pod's node was tainted or lost, and the pod was taken off it"),
    "DeletionByPodGC": ("node-lost", "the pod's node is gone"),
}
_REASONS: Mapping[str, tuple[str, str]] = {
    "NodeLost": ("node-lost", "the pod's node is gone"),
    "NodeShutdown": ("drained", "the pod's node was shut down"),
    "Terminated": ("drained", "the pod's node was shut down"),
    "Preempting": ("preempted", "the kubelet made room for a critical pod"),
    "Shutdown": ("drained", "the pod's node was shut down"),
}


def disruption(pod: Object) -> Finding | None:
    """Why the cluster ended a pod; None where it was the pod's own end."""
    status = pod.get("status") or {}
    reason, message = str(status.get("reason") or ""), " ".join(str(status.get("message") or "").split())
    disrupted = condition(pod, "DisruptionTarget") or {}
    told = message or str(disrupted.get("message") or "")
    line = (f"pod {pod['metadata']['name']} (node {node_of(pod)}): {disrupted.get('reason') or reason}: {told}",)
    since = disrupted.get("lastTransitionTime")
    if limited := _LIMIT.search(told):
        return _over_its_limit(limited, line, since)
    if reason == "Evicted" or disrupted.get("reason") == "TerminationByKubelet":
        return _evicted(told, line, since)
    if reason == "UnexpectedAdmissionError" or reason.startswith("OutOf") or reason in {"NodeAffinity", "NodePorts"}:
        return _turned_away(reason, told, line, since)
    known = _DISRUPTIONS.get(str(disrupted.get("reason"))) or _REASONS.get(reason)
    if known is None and disrupted:
        known = "disrupted", "the cluster ended the pod"
    if known is None:
        return None
    cause, sentence = known
    return Finding(cause=cause, sentence=sentence, remedy=_AGAIN, evidence=line, since=since, mood="waiting")


def _over_its_limit(match: re.Match[str], line: tuple[str, ...], since: str | None) -> Finding:
    """The pod wrote more than it may: it would do so again."""
    if match[1] == "shm":
        return Finding(
            cause="shared-memory-full",
            sentence=f"the shared memory (/dev/shm) is too small: more than {match[2]} was written to it",
            remedy="raise spec.job.sharedMemory, and the memory limit with it",
            evidence=line,
            since=since,
        )
    if match[1]:
        return Finding(
            cause="disk-limit",
            sentence=f"the volume {match[1]} may hold {match[2]}, and more was written to it",
            remedy="raise its sizeLimit in spec.job.volumes, or take a claim",
            evidence=line,
            since=since,
        )
    return Finding(
        cause="disk-limit",
        sentence=f"the pod wrote more than its limit of ephemeral storage ({match[3]}) to the node's disk",
        remedy="raise spec.job.resources.limits.ephemeral-storage; take a claim for the model cache (spec.job.volumes.modelCache): "
        "without one every pod downloads to the node's disk",
        evidence=line,
        since=since,
    )


def _evicted(told: str, line: tuple[str, ...], since: str | None) -> Finding:
    low = _LOW.search(told)
    what = low[1] if low else ""
    if what == "memory" or "MemoryPressure" in told:
        return Finding(
            cause="evicted-memory",
            sentence="the node ran low on memory, and evicted the pod",
            remedy="set spec.job.resources.requests.memory to what the pod uses: the scheduler then sets it aside; it is started again by itself",
            evidence=line,
            since=since,
        )
    if what in {"ephemeral-storage", "inodes"} or "DiskPressure" in told:
        return Finding(
            cause="evicted-disk",
            sentence=f"the node's disk ran low on {'inodes' if what == 'inodes' else 'space'}, and the node evicted the pod",
            remedy="take a claim for the model cache (spec.job.volumes.modelCache), request ephemeral-storage, or ask an admin to clear the "
            "node's disk; it is started again by itself",
            evidence=line,
            since=since,
        )
    return Finding(
        cause="evicted",
        sentence="the node evicted the pod",
        remedy="it is started again by itself; the message below says what the node was short of",
        evidence=line,
        since=since,
    )


def _turned_away(reason: str, told: str, line: tuple[str, ...], since: str | None) -> Finding:
    """The scheduler chose a node whose kubelet then refused: its view was old, or a device has become ill."""
    if "device" in told.lower() or reason == "UnexpectedAdmissionError":
        return Finding(
            cause="device-unavailable",
            sentence="the node could not give the pod its devices, though the scheduler thought them free",
            remedy="it is tried again; if it happens again on the same node, a GPU there is ill or the device plugin was restarted: ask an admin",
            evidence=line,
            since=since,
        )
    return Finding(
        cause="node-refused",
        sentence=f"the node turned the pod away ({reason})",
        remedy="it is tried again: the node had changed since the scheduler looked at it",
        evidence=line,
        since=since,
        mood="waiting",
    )
