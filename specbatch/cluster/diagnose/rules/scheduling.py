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
from dataclasses import replace
from decimal import Decimal

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Cause, Finding, by_name, recognise
from specbatch.cluster.diagnose.quantities import cause_word, node_lines, spec_field, text
from specbatch.cluster.diagnose.rules.capacity import NO_NODES, fit
from specbatch.cluster.jobs.timestamps import age, event_time
from specbatch.cluster.manifests.pod_requests import is_extended, requests
from specbatch.cluster.status.pod_state import node_of
from specbatch.formatting import rough_duration

_SILENT_SECONDS = 60.0
_CONTROL_PLANE = r"node-role\.kubernetes\.io/(control-plane|master)"

# The filters that nodes come to last are named first: a node that lacks something has passed selector and taints.
_FILTERS = (
    NO_NODES,
    Cause("pods-taken", r"Too many pods",
        "the nodes hold as many pods as they may",
        "wait: the pods start by themselves as soon as there is room; or ask an admin for another node", "warning"),
    Cause("nodes-not-ready", r"taint \{node\.kubernetes\.io/(not-ready|unreachable|disk-pressure|memory-pressure)",
        "nodes are out of service, and no other would do",
        "ask an admin: kubectl describe nodes says what is the matter with them"),
    Cause("taint-not-tolerated", rf"taint \{{(?!{_CONTROL_PLANE})(?P<key>[^:}}]+): ?(?P<value>[^}}]*)\}}",
        "nodes have the taint {key}={value}, which the spec does not tolerate, and no other would do",
        'if you may use them, add to spec.job.tolerations: {{key: {key}, operator: Equal, value: "{value}"}}'),
    Cause("node-selector", r"node affinity|node selector",
        "no node that could be used {labels}",
        "correct spec.job.nodeSelector or spec.job.affinity (an admin sees the labels: kubectl get nodes --show-labels)"),
    Cause("taint-not-tolerated", rf"taint \{{{_CONTROL_PLANE}",
        "the cluster has no nodes but those of its control plane, which are tainted",
        "add a worker node; on a cluster of one's own: kubectl taint nodes --all node-role.kubernetes.io/control-plane-"),
    Cause("taint-not-tolerated", r"untolerated taint",
        "nodes have a taint that the spec does not tolerate, and no other would do",
        "ask an admin which (kubectl describe nodes | grep Taints), and add it to spec.job.tolerations if you may use them"),
    Cause("nodes-cordoned", r"were unschedulable",
        "nodes are cordoned, and no other node would do",
        "ask an admin: kubectl uncordon NODE, when its work is done"),
    Cause("spread-constraint", r"topology spread constraints",
        "the topology spread constraints leave no node for the pod",
        "set whenUnsatisfiable: ScheduleAnyway in spec.job.topologySpreadConstraints, or raise maxSkew"),
    Cause("pod-affinity", r"anti-affinity|pod affinity",
        "the pods' affinity or anti-affinity leaves no node for the pod",
        "wait until a node is free, make spec.job.affinity preferred instead of required, or lower job.parallelism", "warning"),
    Cause("device-claim", r"resourceclaim|cannot allocate all claims",
        "a resource claim of the pod cannot be allocated now",
        "see kubectl get resourceclaims: the devices are in use, or no driver offers them"),
    Cause("unschedulable", r".",
        "the scheduler finds no node for the pod",
        "its message below says why; an admin sees more: kubectl describe pod and kubectl describe nodes"),
)  # fmt: skip

_CAUSES = by_name(
    Cause("scheduling-gated", "",
        "the pod waits for {gates}: a scheduling gate that nobody has opened yet",
        "ask whoever runs that controller; a gate that spec.job.podTemplate sets must be taken away by its own controller"),
    Cause("node-starting", "",
        "the cluster's autoscaler is starting a node for the pod",
        "wait: a GPU node usually takes 3 to 10 minutes; why says more if it does not come", "warning"),
    Cause("not-enough", "",
        "each pod asks for {asked}, and no node that it may use has so much, not even an empty one",
        "lower {field} to what one node has (an admin sees it: kubectl describe nodes), or add a larger node; a taint or a selector in the message below may keep the pod from the very nodes that have it"),
    Cause("taken", "",
        "each pod asks for {asked}, and no node that it may use has so much free now",
        "wait if a node has so much in all: the pods then start by themselves; if none has, lower {field}", "warning"),
    Cause("scheduling", "", "the scheduler has not looked at the pod yet", "wait a moment", "warning"),
    Cause("scheduler-silent", "",
        "the scheduler ({name}) has said nothing about the pod for {time}",
        "ask an admin whether it runs (kubectl get pods -n kube-system); a schedulerName of spec.job.podTemplate must exist"),
)  # fmt: skip


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
    finding = _gated(pod) or _scaling_up(evidence, pod) or fit(evidence, pod) or _by_message(evidence, pod, message)
    waited = age(pod["metadata"].get("creationTimestamp"), evidence.clock) or 0.0
    if finding is None:
        name = pod["spec"].get("schedulerName", "default-scheduler")
        cause = "scheduling" if waited < _SILENT_SECONDS else "scheduler-silent"
        finding = _CAUSES[cause].finding(name=name, time=rough_duration(waited))
    refused = evidence.newest(pod, "NotTriggerScaleUp")
    lines = [f"pod {pod['metadata']['name']}: {message}"] if message else []
    yield finding.seen([*lines, *([f"autoscaler: {refused.get('message', '')}"] if refused else [])], since)


def _gated(pod: Object) -> Finding | None:
    gates = [gate.get("name", "") for gate in pod["spec"].get("schedulingGates") or ()]
    return _CAUSES["scheduling-gated"].finding(gates=", ".join(gates)) if gates else None


def _scaling_up(evidence: Evidence, pod: Object) -> Finding | None:
    """An autoscaler is at work for this pod: its word is newer than its last refusal."""
    newest = evidence.newest(pod, "TriggeredScaleUp", "Nominated", "NotTriggerScaleUp")
    if newest is None or newest.get("reason") == "NotTriggerScaleUp":
        return None
    return _CAUSES["node-starting"].finding().seen([f"autoscaler: {newest.get('message', '')}"], event_time(newest))


def _by_message(evidence: Evidence, pod: Object, message: str) -> Finding | None:
    """By the scheduler's message alone: resources first, then the other filters."""
    reasons, _, preemption = message.partition("preemption:")
    lacking = re.findall(r"Insufficient ([^\s,]*[^\s,.])", reasons)
    if not lacking:
        wanted = ", ".join(f"{key}={value}" for key, value in (pod["spec"].get("nodeSelector") or {}).items())
        labels = f"has the label {wanted}" if wanted else "matches the node affinity"
        return recognise(_FILTERS, reasons, labels=labels)
    name = min(lacking, key=lambda one: (not is_extended(one), one))
    asked = text(name, requests(pod["spec"]).get(name, Decimal(0)))
    never = "Preemption is not helpful" in preemption and "No preemption victims" not in preemption
    cause = _CAUSES["not-enough" if never else "taken"]
    found = cause.finding(asked=asked, field=spec_field(name))
    lines = () if never else node_lines(evidence.nodes_with_pods or (), name)
    word = cause_word(name)
    return replace(found, cause=f"not-enough-{word}" if never else f"{word}-taken").seen(lines)
