"""Pods that no node has taken yet."""

from __future__ import annotations

from dataclasses import replace

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.capacity import judged_by_nodes
from specbatch.cluster.diagnose.capacity_told import judged_by_message
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Finding
from specbatch.cluster.diagnose.scheduler_message import SchedulerMessage, parse_message
from specbatch.cluster.jobs.timestamps import age, event_time
from specbatch.formatting import rough_duration

_SCHEDULER_SILENT_SECONDS = 60.0


def scheduler_says(evidence: Evidence, pod: Object) -> tuple[SchedulerMessage, str | None]:
    """Its newest sentence about a pod, and since when the pod waits."""
    said = _condition(pod)
    if said.get("message"):
        return parse_message(str(said["message"])), said.get("lastTransitionTime")
    event = evidence.newest(pod, "FailedScheduling")
    if event is None:
        return SchedulerMessage(""), pod["metadata"].get("creationTimestamp")
    return parse_message(str(event.get("message", ""))), event_time(event)


def unschedulable(evidence: Evidence, pod: Object) -> Finding | None:
    """Why a pod has no node; None where it has one."""
    if pod["spec"].get("nodeName"):
        return None
    message, since = scheduler_says(evidence, pod)
    finding = (
        _gated(pod)
        or _scaling_up(evidence, pod)
        or _no_nodes(message)
        or judged_by_nodes(evidence, pod)
        or judged_by_message(pod, message)
        or _placement(message)
        or _waiting(evidence, pod, message)
    )
    told = f"pod {pod['metadata']['name']}: {message.text}" if message.text else ""
    refused = evidence.newest(pod, "NotTriggerScaleUp")
    autoscaler = f"autoscaler: {refused.get('message', '')}" if refused else ""
    lines = tuple(line for line in (told, autoscaler) if line)
    return replace(finding, evidence=(*finding.evidence, *lines), since=finding.since or since)


def _condition(pod: Object) -> Object:
    conditions = pod.get("status", {}).get("conditions") or ()
    found: Object = next(
        (one for one in conditions if one.get("type") == "PodScheduled" and one.get("status") == "False"), {}
    )
    return found


def _gated(pod: Object) -> Finding | None:
    gates = [gate.get("name", "") for gate in pod["spec"].get("schedulingGates") or ()]
    if not gates:
        return None
    return Finding(
        cause="scheduling-gated",
        sentence=f"the pod waits for {', '.join(gates)}: a scheduling gate that nobody has opened yet",
        remedy="ask whoever runs that controller; a gate that spec.job.podTemplate sets must be taken away by its own controller",
    )


def _scaling_up(evidence: Evidence, pod: Object) -> Finding | None:
    """An autoscaler is at work for this pod: its word is newer than its last refusal."""
    started = evidence.newest(pod, "TriggeredScaleUp", "Nominated")
    refused = evidence.newest(pod, "NotTriggerScaleUp")
    if started is None or (refused is not None and event_time(refused) > event_time(started)):
        return None
    return Finding(
        cause="node-starting",
        sentence="the cluster's autoscaler is starting a node for the pod",
        remedy="wait: a GPU node usually takes 3 to 10 minutes; why says more if it does not come",
        evidence=(f"autoscaler: {started.get('message', '')}",),
        since=event_time(started),
        mood="waiting",
    )


def _no_nodes(message: SchedulerMessage) -> Finding | None:
    if "no nodes available to schedule pods" not in message.text:
        return None
    return Finding(
        cause="no-nodes",
        sentence="the cluster has no nodes at all",
        remedy="add one, or wait for the autoscaler; kubectl get nodes shows when it is there",
    )


# The last filters: a node with room, but not beside those pods, or not in that zone. The first whose words the scheduler says.
_LAST_FILTERS: tuple[tuple[tuple[str, ...], Finding], ...] = (
    (
        ("topology spread constraints",),
        Finding(
            cause="spread-constraint",
            sentence="the topology spread constraints leave no node for the pod",
            remedy="set whenUnsatisfiable: ScheduleAnyway in spec.job.topologySpreadConstraints, or raise maxSkew",
        ),
    ),
    (
        ("anti-affinity",),
        Finding(
            cause="pod-affinity",
            sentence="the pods' anti-affinity leaves no node for the pod",
            remedy="wait until a node is free, make spec.job.affinity preferred instead of required, or lower job.parallelism",
            mood="waiting",
        ),
    ),
    (
        ("pod affinity",),
        Finding(
            cause="pod-affinity",
            sentence="no node runs the pods that the affinity asks to be near to",
            remedy="correct podAffinity in spec.job.affinity, or make it preferred instead of required",
        ),
    ),
    (
        ("exceed max volume count",),
        Finding(
            cause="volume-limit",
            sentence="every node that would do has as many volumes attached as it may",
            remedy="wait until pods end, or ask an admin for another node",
            mood="waiting",
        ),
    ),
    (
        ("free ports",),
        Finding(
            cause="port-taken",
            sentence="the host port that the pod asks for is taken on every node",
            remedy="take hostPort out of spec.job.podTemplate: specbatch needs none",
        ),
    ),
    (
        (
            "resourceclaim",
            "cannot allocate all claims",
            "ResourceClaim",
        ),
        Finding(
            cause="device-claim",
            sentence="a resource claim of the pod cannot be allocated now",
            remedy="see kubectl get resourceclaims: the devices are in use, or no driver offers them",
        ),
    ),
)


def _placement(message: SchedulerMessage) -> Finding | None:
    return next((finding for words, finding in _LAST_FILTERS if message.says(*words)), None)


def _waiting(evidence: Evidence, pod: Object, message: SchedulerMessage) -> Finding:
    seconds = age(pod["metadata"].get("creationTimestamp"), evidence.clock) or 0.0
    if message.text:
        return Finding(
            cause="unschedulable",
            sentence="the scheduler finds no node for the pod",
            remedy="its message below says why; an admin sees more: kubectl describe pod and kubectl describe nodes",
        )
    if seconds < _SCHEDULER_SILENT_SECONDS:
        return Finding(
            cause="scheduling",
            sentence="the scheduler has not looked at the pod yet",
            remedy="wait a moment",
            mood="waiting",
        )
    name = pod["spec"].get("schedulerName", "default-scheduler")
    return Finding(
        cause="scheduler-silent",
        sentence=f"the scheduler ({name}) has said nothing about the pod for {rough_duration(seconds)}",
        remedy="ask an admin whether it runs (kubectl get pods -n kube-system); a schedulerName of spec.job.podTemplate must exist",
    )
