"""Pods without a node: why no node takes them, told from the nodes, or from the scheduler's message where nodes may not be read.

Source: https://github.com/kubernetes/kubernetes/blob/master/pkg/scheduler/framework/types.go (FitError): the form of its message,

    0/6 nodes are available: 1 Insufficient nvidia.com/gpu, 2 node(s) had untolerated taint {dedicated: batch}, 3 node(s) didn't match
    Pod's node affinity/selector. preemption: 0/6 nodes are available: 1 No preemption victims found for incoming pod, 5 Preemption is
    not helpful for scheduling.

From Kubernetes 1.34 on a taint is not named any more: `had untolerated taint(s)`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Finding, Message, recognise
from specbatch.cluster.diagnose.quantities import cause_word, node_lines, spec_field, text
from specbatch.cluster.diagnose.rules.capacity import fit
from specbatch.cluster.jobs.timestamps import age, event_time
from specbatch.cluster.manifests.pod_requests import is_extended, requests
from specbatch.cluster.status.pod_state import node_of
from specbatch.formatting import rough_duration

_SILENT_SECONDS = 60.0
_CONTROL_PLANE = r"node-role\.kubernetes\.io/(control-plane|master)"

# The filters that nodes come to last are named first: a node that lacks something has passed selector and taints.
_FILTERS = (
    Message(
        "no-nodes",
        r"no nodes available to schedule pods",
        "the cluster has no nodes at all",
        "add one, or wait for the autoscaler; kubectl get nodes shows when it is there",
    ),
    Message(
        "pods-taken",
        r"Too many pods",
        "the nodes hold as many pods as they may",
        "wait: the pods start by themselves as soon as there is room; or ask an admin for another node",
        "warning",
    ),
    Message(
        "nodes-not-ready",
        r"taint \{node\.kubernetes\.io/(not-ready|unreachable|disk-pressure|memory-pressure)",
        "nodes are out of service, and no other would do",
        "ask an admin: kubectl describe nodes says what is the matter with them",
    ),
    Message(
        "taint-not-tolerated",
        rf"taint \{{(?!{_CONTROL_PLANE})(?P<key>[^:}}]+): ?(?P<value>[^}}]*)\}}",
        "the taint {key}={value} of nodes is not tolerated by the spec, and no other node would do",
        "if you may use them, add to spec.job.tolerations: {{key: {key}, operator: Exists}}",
    ),
    Message(
        "node-selector",
        r"node affinity|node selector",
        "no node that could be used {labels}",
        "correct spec.job.nodeSelector or spec.job.affinity (an admin sees the labels: kubectl get nodes --show-labels)",
    ),
    Message(
        "taint-not-tolerated",
        rf"taint \{{{_CONTROL_PLANE}",
        "the cluster has no nodes but those of its control plane, which are tainted",
        "add a worker node; on a cluster of one's own: kubectl taint nodes --all node-role.kubernetes.io/control-plane-",
    ),
    Message(
        "taint-not-tolerated",
        r"untolerated taint",
        "nodes have a taint that the spec does not tolerate, and no other would do",
        "ask an admin which (kubectl describe nodes | grep Taints), and add it to spec.job.tolerations if you may use them",
    ),
    Message(
        "nodes-cordoned",
        r"were unschedulable",
        "nodes are cordoned, and no other node would do",
        "ask an admin: kubectl uncordon NODE, when its work is done",
    ),
    Message(
        "spread-constraint",
        r"topology spread constraints",
        "the topology spread constraints leave no node for the pod",
        "set whenUnsatisfiable: ScheduleAnyway in spec.job.topologySpreadConstraints, or raise maxSkew",
    ),
    Message(
        "pod-affinity",
        r"anti-affinity|pod affinity",
        "the pods' affinity or anti-affinity leaves no node for the pod",
        "wait until a node is free, make spec.job.affinity preferred instead of required, or lower job.parallelism",
        "warning",
    ),
    Message(
        "device-claim",
        r"resourceclaim|cannot allocate all claims",
        "a resource claim of the pod cannot be allocated now",
        "see kubectl get resourceclaims: the devices are in use, or no driver offers them",
    ),
    Message(
        "unschedulable",
        r".",
        "the scheduler finds no node for the pod",
        "its message below says why; an admin sees more: kubectl describe pod and kubectl describe nodes",
    ),
)


def scheduler_says(evidence: Evidence, pod: Object) -> tuple[str, str | None]:
    """The scheduler's newest message about a pod (none about one that does not exist yet), and since when the pod waits."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    for one in conditions:
        if one.get("type") == "PodScheduled" and one.get("status") == "False" and one.get("message"):
            return str(one["message"]), one.get("lastTransitionTime")
    event = evidence.newest(pod, "FailedScheduling") if "status" in pod else None
    if event is not None:
        return str(event.get("message") or ""), event_time(event)
    return "", pod["metadata"].get("creationTimestamp")


def unschedulable(evidence: Evidence, pod: Object) -> Iterator[Finding]:
    """Why a pod has no node."""
    if node_of(pod):
        return
    message, since = scheduler_says(evidence, pod)
    finding = (
        _gated(pod)
        or _scaling_up(evidence, pod)
        or fit(evidence, pod)
        or _by_message(evidence, pod, message)
        or _no_message(evidence, pod)
    )
    refused = evidence.newest(pod, "NotTriggerScaleUp")
    lines = [f"pod {pod['metadata']['name']}: {message}"] if message else []
    yield finding.seen([*lines, *([f"autoscaler: {refused.get('message', '')}"] if refused else [])], since)


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
    newest = evidence.newest(pod, "TriggeredScaleUp", "Nominated", "NotTriggerScaleUp")
    if newest is None or newest.get("reason") == "NotTriggerScaleUp":
        return None
    return Finding(
        cause="node-starting",
        sentence="the cluster's autoscaler is starting a node for the pod",
        remedy="wait: a GPU node usually takes 3 to 10 minutes; why says more if it does not come",
        evidence=(f"autoscaler: {newest.get('message', '')}",),
        since=event_time(newest),
        severity="warning",
    )


def _by_message(evidence: Evidence, pod: Object, message: str) -> Finding | None:
    """By the scheduler's message alone: resources first, then the other filters."""
    reasons = message.partition("preemption:")
    lacking = re.findall(r"Insufficient ([^\s,]*[^\s,.])", reasons[0])
    if not lacking:
        wanted = ", ".join(f"{key}={value}" for key, value in (pod["spec"].get("nodeSelector") or {}).items())
        labels = f"has the label {wanted}" if wanted else "matches the node affinity"
        return recognise(_FILTERS, reasons[0], labels=labels)
    name = min(lacking, key=lambda one: (not is_extended(one), one))
    asked = text(name, requests(pod["spec"]).get(name, Decimal(0)))
    if reasons[2] and "No preemption victims" not in reasons[2]:
        return Finding(
            cause=f"not-enough-{cause_word(name)}",
            sentence=f"each pod asks for {asked}, and no node that it may use has so much, not even an empty one",
            remedy=f"lower {spec_field(name)} to what one node has (an admin sees it: kubectl describe nodes), or add a larger node; a taint or a "
            "selector in the message below may keep the pod from the very nodes that have it",
        )
    return Finding(
        cause=f"{cause_word(name)}-taken",
        sentence=f"each pod asks for {asked}, and no node that it may use has so much free now",
        evidence=tuple(node_lines(evidence.nodes_with_pods or (), name)),
        remedy=f"wait if a node has so much in all: the pods then start by themselves; if none has, lower {spec_field(name)}",
        severity="warning",
    )


def _no_message(evidence: Evidence, pod: Object) -> Finding:
    seconds = age(pod["metadata"].get("creationTimestamp"), evidence.clock) or 0.0
    if seconds < _SILENT_SECONDS:
        return Finding(
            cause="scheduling",
            sentence="the scheduler has not looked at the pod yet",
            remedy="wait a moment",
            severity="warning",
        )
    name = pod["spec"].get("schedulerName", "default-scheduler")
    return Finding(
        cause="scheduler-silent",
        sentence=f"the scheduler ({name}) has said nothing about the pod for {rough_duration(seconds)}",
        remedy="ask an admin whether it runs (kubectl get pods -n kube-system); a schedulerName of spec.job.podTemplate must exist",
    )
