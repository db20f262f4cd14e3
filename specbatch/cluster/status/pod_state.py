"""The state of a pod: whether its container has started or ended, what it waits for, and why it ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.jobs.job_view import condition, reason_text
from specbatch.cluster.manifests.names import CONTAINER
from specbatch.cluster.status.pod_log import read_termination_message
from specbatch.errors import ExitCode
from specbatch.results.protocol import TerminationMessage

# By the reason of the condition DisruptionTarget, of the pod, or of its container.
_REASONS = {
    "PreemptionByScheduler": "preempted",
    "EvictionByEvictionAPI": "evicted",
    "DeletionByTaintManager": "deleted: its node was not ready",
    "DeletionByPodGC": "lost with its node",
    "TerminationByKubelet": "evicted by its node",
    "Evicted": "evicted by its node",
    "Preempting": "preempted",
    "NodeLost": "lost with its node",
    "Terminated": "its node was shut down",
    "NodeShutdown": "its node was shut down",
    "DeadlineExceeded": "past its deadline",
    "OOMKilled": "out of memory (OOMKilled)",
    "ContainerStatusUnknown": "lost with its node",
}
_SIGNALS = {137: "killed (exit code 137)", 139: "crashed (exit code 139)", 143: "told to stop (exit code 143)"}


def container_state(pod: Object, container: str = CONTAINER) -> Mapping[str, Object]:
    """{"waiting" | "running" | "terminated": ...} of a container; empty before it has a status."""
    statuses: Sequence[Object] = (pod.get("status") or {}).get("containerStatuses") or ()
    chosen = next((one for one in statuses if one.get("name") == container), None)
    return (chosen or {}).get("state") or {}


def has_ended(pod: Object) -> bool:
    """Whether its container writes no more."""
    return (pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"} or "terminated" in container_state(pod)


def has_succeeded(pod: Object) -> bool:
    """Whether it ended its shard; the Job may not know yet."""
    ended = container_state(pod).get("terminated") or {}
    return (pod.get("status") or {}).get("phase") == "Succeeded" or ended.get("exitCode") == 0


def has_begun(pod: Object) -> bool:
    """Whether its container ever ran, as far as can be seen."""
    return has_ended(pod) or "running" in container_state(pod)


def node_of(pod: Object) -> str:
    """The node it is on; empty while it has none."""
    return str((pod.get("spec") or {}).get("nodeName") or "")


def termination_message(pod: Object) -> TerminationMessage | None:
    """The termination message; None while there is none."""
    message = (container_state(pod).get("terminated") or {}).get("message")
    return read_termination_message(message) if message else None


def waits_for(pod: Object) -> str:
    """Why it does not run yet: Kubernetes' reason and message, of its container or of a pod that is not scheduled."""
    conditions: Sequence[Object] = (pod.get("status") or {}).get("conditions") or ()
    unscheduled = (one for one in conditions if one.get("type") == "PodScheduled" and one.get("status") == "False")
    reason = " ".join(reason_text(container_state(pod).get("waiting") or next(unscheduled, None)).split())
    return reason or ("starting" if node_of(pod) else "waiting for a node")


def ended_because(pod: Object) -> str:
    """Why it ended, in a few words that are the same for the same cause."""
    disruption = condition(pod, "DisruptionTarget")
    if disruption is not None:
        reason = str(disruption.get("reason") or "")
        return _REASONS.get(reason, f"disrupted ({reason})")
    status = pod.get("status") or {}
    ended = container_state(pod).get("terminated") or {}
    known = _REASONS.get(status.get("reason", "")) or _REASONS.get(ended.get("reason", ""))
    if known:
        return known
    if "exitCode" not in ended:
        return str(
            status.get("reason") or ("deleted" if "deletionTimestamp" in pod["metadata"] else "gone without a reason")
        )
    return exit_code_meaning(int(ended["exitCode"]))


def exit_code_meaning(code: int) -> str:
    """The meaning of a pod's exit code."""
    if code in {int(one) for one in ExitCode}:
        return f"{ExitCode(code).meaning} (exit code {code})" if code else "done"
    return _SIGNALS.get(code, f"exit code {code}")
