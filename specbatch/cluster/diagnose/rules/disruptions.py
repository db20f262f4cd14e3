"""Pods that the cluster ended, through no fault of the run: evicted, preempted, drained, lost with their node, refused by it."""

from __future__ import annotations

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.finding import Cause, Finding, recognise
from specbatch.cluster.jobs.job_view import condition
from specbatch.cluster.status.pod_state import node_of

# Of "reason: message", the reason being that of the condition DisruptionTarget or of the pod. Limits come first: the pod would exceed them again.
_MESSAGES = (
    Cause("shared-memory-full", r'Usage of EmptyDir volume "shm" exceeds the limit "(?P<limit>[^"]+)"',
        "the shared memory (/dev/shm) is too small: more than {limit} was written to it",
        "raise spec.job.sharedMemory, and the memory limit with it"),
    Cause("disk-limit", r'Usage of EmptyDir volume "(?P<volume>[^"]+)" exceeds the limit "(?P<limit>[^"]+)"',
        "the volume {volume} may hold {limit}, and more was written to it",
        "raise its sizeLimit in spec.job.volumes, or take a claim"),
    Cause("disk-limit", r'ephemeral (local )?storage (usage exceeds the total )?limit (of containers )?"?(?P<limit>[^".\s]+)',
        "the pod wrote more than its limit of ephemeral storage ({limit}) to the node's disk",
        "raise spec.job.resources.limits.ephemeral-storage; take a claim for the model cache (spec.job.volumes.modelCache): without one every pod downloads to the node's disk"),
    Cause("evicted-memory", r"low on resource: memory|MemoryPressure",
        "the node ran low on memory, and evicted the pod",
        "set spec.job.resources.requests.memory to what the pod uses: the scheduler then sets it aside"),
    Cause("evicted-disk", r"low on resource: (ephemeral-storage|inodes)|DiskPressure",
        "the node's disk was full, and the node evicted the pod",
        "take a claim for the model cache (spec.job.volumes.modelCache), request ephemeral-storage, or ask an admin to clear the node's disk"),
    Cause("evicted", r"^(Evicted|TerminationByKubelet):",
        "the node evicted the pod",
        "the message below says what the node was short of"),
    Cause("node-refused", r"^(?P<reason>UnexpectedAdmissionError|OutOf\w*|NodeAffinity|NodePorts):",
        "the node turned the pod away ({reason})",
        "the node had changed since the scheduler looked at it; if it happens on the same node again, a GPU there is ill or the device plugin was restarted: ask an admin", "warning"),
    Cause("preempted", r"^(PreemptionByScheduler|Preempting):",
        "the pod had to make room for one of a higher priority",
        "", "warning"),
    Cause("drained", r"^(EvictionByEvictionAPI|NodeShutdown|Terminated|Shutdown):",
        "the pod was evicted: its node is being drained or shut down, or somebody asked for it",
        "", "warning"),
    Cause("node-lost", r"^(DeletionByTaintManager|DeletionByPodGC|NodeLost):",
        "the pod's node is gone, or was tainted, and the pod was taken off it",
        "", "warning"),
    Cause("disrupted", r"^(?P<reason>\S+):",
        "the cluster ended the pod ({reason})",
        "", "warning"),
)  # fmt: skip


def disruption(pod: Object) -> Finding | None:
    """Why the cluster ended a pod; None where it was the pod's own end."""
    status = pod.get("status") or {}
    target = condition(pod, "DisruptionTarget") or {}
    reason = str(target.get("reason") or status.get("reason") or "")
    message = " ".join(str(status.get("message") or target.get("message") or "").split())
    found = recognise(_MESSAGES, f"{reason}: {message}")
    line = f"pod {pod['metadata']['name']} (node {node_of(pod) or '?'}): {reason}: {message}"
    return found and found.seen([line], target.get("lastTransitionTime"))
