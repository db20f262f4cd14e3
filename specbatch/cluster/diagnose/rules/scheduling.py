"""Pods without a node: why no node takes them, told from the nodes, or from the scheduler's message where nodes may not be read.

Source: https://github.com/kubernetes/kubernetes/blob/master/pkg/scheduler/framework/types.go (FitError): the form of its message,

    0/6 nodes are available: 1 Insufficient nvidia.com/gpu, 2 node(s) had untolerated taint {dedicated: batch}, 3 node(s) didn't match
    Pod's node affinity/selector. preemption: 0/6 nodes are available: 1 No preemption victims found for incoming pod, 5 Preemption is
    not helpful for scheduling.

From Kubernetes 1.34 on a taint is not named any more: `had untolerated taint(s)`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from specbatch.api.hints.nearest import nearest
from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Cause, Finding, Said, by_name, listed
from specbatch.cluster.diagnose.nodes import Node, device_resources, node_lines, number, requirements, text, words_of
from specbatch.cluster.jobs.timestamps import age
from specbatch.cluster.manifests.pod_requests import is_extended, requests
from specbatch.cluster.status.pod_state import node_of
from specbatch.formatting import rough_duration

_SILENT_SECONDS = 60.0
_NODE_STATES = r"node\.kubernetes\.io/"  # taints that the control plane sets while something is the matter with a node
_CONTROL_PLANE = r"node-role\.kubernetes\.io/(control-plane|master)"
_TAINT = rf"taint \{{(?!{_CONTROL_PLANE}|{_NODE_STATES})(?P<key>[^:}}]+): ?(?P<value>[^}}]*)\}}"

# Told from the nodes, or by the scheduler. The filters that nodes come to last are named first: a node that lacks something has passed
# selector and taints.
_FILTERS = (
    Cause("no-nodes", r"no nodes available to schedule pods", "the cluster has no nodes at all",
        "add one, or wait for the autoscaler; {kubectl_all} get nodes shows when it is there"),
    Cause("pods-taken", r"Too many pods", "the nodes hold as many pods as they may",
        "wait: the pods start by themselves as soon as there is room; or ask an admin for another node", "warning"),
    Cause("nodes-not-ready", rf"taint \{{{_NODE_STATES}(not-ready|unreachable|disk-pressure|memory-pressure)",
        "{nodes} would do, but for being out of service (not ready)",
        "ask an admin: {kubectl_all} describe node {node} says what is the matter"),
    Cause("taint-not-tolerated", _TAINT,
        "{nodes} would do, but for the taint {taint}, which the spec does not tolerate",
        "if you may use them, add to spec.job.tolerations: {toleration}"),
    Cause("node-selector", r"node affinity|node selector", "no node{having} {what}",
        "correct spec.job.nodeSelector and spec.job.affinity, or label a node ({kubectl_all} get nodes --show-labels){fixes}"),
    Cause("taint-not-tolerated", rf"taint \{{{_CONTROL_PLANE}",
        "the cluster has no nodes but those of its control plane, which are tainted",
        "add a worker node; on a cluster of one's own: {kubectl_all} taint nodes --all node-role.kubernetes.io/control-plane-"),
    Cause("taint-not-tolerated", r"untolerated taint",
        "nodes have a taint that the spec does not tolerate, and no other would do",
        "ask an admin which ({kubectl_all} describe nodes | grep Taints), and add it to spec.job.tolerations if you may use them"),
    Cause("nodes-cordoned", r"were unschedulable",
        "{nodes} would do, but for being cordoned: no new pods may start there",
        "ask an admin: {kubectl_all} uncordon {node}, when its work is done"),
    Cause("unschedulable", r": .", "the scheduler finds no node for the pod",
        "its message below says why: change what it names in spec.job, or wait until a node is free; an admin sees more: {kubectl_all} describe nodes"),
)  # fmt: skip
_CAUSES = by_name(
    *reversed(_FILTERS),  # of those with one name, the first
    Cause("gpu-resource-unknown", "", "each pod asks for {asked}, and no node offers {name}{labelled}", "{remedy}"),
    Cause("not-enough", "", "each pod asks for {asked}, and {which} has more than {most}", "{remedy}"),
    Cause("not-enough-together", "", "{which} has all that a pod asks for: {asked}",
        "compare spec.job.resources with {kubectl_all} describe nodes"),
    Cause("never", r"Preemption is not helpful(?!.*No preemption victims)",
        "each pod asks for {asked}, and no node that it may use has so much, not even an empty one",
        "lower {field} to what one node has (an admin sees it: {kubectl_all} describe nodes), or add a larger node; a taint or a selector in the message below may keep the pod from the very nodes that have it"),
    Cause("taken", "", "each pod asks for {asked}, and no node that it may use has so much free now",
        "wait if a node has so much in all: the pods then start by themselves; if none has, lower {field}", "warning"),
    Cause("scheduling-gated", "", "the pod waits for {gates}: a scheduling gate that nobody has opened yet",
        "ask whoever runs that controller; a gate that spec.job.podTemplate sets must be taken away by its own controller"),
    Cause("node-starting", r"^(TriggeredScaleUp|Nominated):", "the cluster's autoscaler is starting a node for the pod",
        "wait: a GPU node usually takes 3 to 10 minutes; why says more if it does not come", "warning"),
    Cause("scheduling", "", "the scheduler has not looked at the pod yet", "wait a moment", "warning"),
    Cause("scheduler-silent", "", "the scheduler ({name}) has said nothing about the pod for {time}",
        "ask an admin whether it runs ({kubectl_all} get pods -n kube-system); a schedulerName of spec.job.podTemplate must exist"),
)  # fmt: skip


def scheduler_says(evidence: Evidence, pod: Object) -> Said:
    """The scheduler's newest words about a pod, empty of one that does not exist yet, and since when the pod waits."""
    name = f"pod {pod['metadata']['name']}"
    for one in (pod.get("status") or {}).get("conditions") or ():
        if one.get("type") == "PodScheduled" and one.get("status") == "False" and one.get("message"):
            return Said(f": {one['message']}", f"{name}: {one['message']}", one.get("lastTransitionTime"))
    events = evidence.said_of(pod, "FailedScheduling") if "status" in pod else ()
    return next(iter(events), Said("", since=pod["metadata"].get("creationTimestamp")))


def unschedulable(evidence: Evidence, pod: Object) -> Iterator[Finding]:
    """Why a pod has no node."""
    if node_of(pod):
        return
    said = scheduler_says(evidence, pod)
    scaling = next(iter(evidence.said_of(pod, "TriggeredScaleUp", "Nominated", "NotTriggerScaleUp")), Said(""))
    gates = ", ".join(gate.get("name", "") for gate in pod["spec"].get("schedulingGates") or ())
    finding = evidence.found(_CAUSES["scheduling-gated"], gates=gates) if gates else None
    finding = finding or evidence.recognise([_CAUSES["node-starting"]], scaling)
    # The pods of a Job ask for the same, and are told the same: thousands of them are held against the nodes once.
    asks = (
        f"{said.text} {[pod['spec'].get(part) for part in ('containers', 'nodeSelector', 'affinity', 'tolerations')]}"
    )
    finding = finding or evidence.once(
        asks, lambda: next(nodes(evidence, pod), None) or _by_message(evidence, pod, said)
    )
    if finding is None:
        waited = age(pod["metadata"].get("creationTimestamp"), evidence.clock) or 0.0
        cause = _CAUSES["scheduling" if waited < _SILENT_SECONDS else "scheduler-silent"]
        name = pod["spec"].get("schedulerName", "default-scheduler")
        finding = evidence.found(cause, name=name, time=rough_duration(waited))
    yield finding.seen([said.line, scaling.line], said.since)


def nodes(evidence: Evidence, pod: Object) -> Iterator[Finding]:
    """What keeps a pod off every node, be it empty: the first filter that leaves none. Nothing where some node would do, or nodes cannot be read."""
    spec, every, asked = pod["spec"], evidence.nodes or (), requests(pod["spec"])
    devices = {name: value for name, value in asked.items() if is_extended(name) and value}
    unknown = [name for name in devices if not any(node.capacity(name) for node in every)]
    large = [node for node in every if node.has(devices)]
    selected = [node for node in every if node.selected(spec)]
    fitting = [node for node in selected if node.has(asked)]
    tolerated = [node for node in fitting if not node.untolerated(spec)]
    if not every and evidence.nodes is not None:
        yield evidence.found(_CAUSES["no-nodes"])
    elif every and unknown:
        yield _unknown_resource(evidence, every, unknown[0], text(unknown[0], devices[unknown[0]]))
    elif every and (not selected or (large and not any(all(map(node.capacity, devices)) for node in selected))):
        yield _no_label(evidence, large or every, spec, devices if large else {})
    elif every and not fitting:
        yield _too_small(evidence, selected, asked)
    elif every and not any(node.usable for node in tolerated):
        yield _kept_off(evidence, tolerated or fitting, spec)


def _unknown_resource(evidence: Evidence, nodes: Sequence[Node], name: str, asked: str) -> Finding:
    labelled, labels = [node.name for node in nodes if node.labelled_gpu], ""
    remedy = "add a node with GPUs and its device plugin, or run on the CPU: spec.placement.gpus: 0"
    if known := device_resources(nodes):
        remedy = f"set spec.job.gpuResourceName to what the nodes offer: {listed(known)}"
    elif labelled:
        labels = f", though the labels of {listed(labelled)} say that GPUs are there: the device plugin does not run"
        remedy = f"ask an admin to start the device plugin ({evidence.words['kubectl_all']} get pods -A | grep -i device-plugin; or the GPU operator)"
    return evidence.found(_CAUSES["gpu-resource-unknown"], asked=asked, name=name, labelled=labels, remedy=remedy)


def _too_small(evidence: Evidence, nodes: Sequence[Node], asked: Mapping[str, Decimal]) -> Finding:
    which = "no node" if len(nodes) == len(evidence.nodes or ()) else "no node that matches the spec's selector"
    most = {name: max(node.capacity(name) for node in nodes) for name in asked}
    short = sorted((name for name in asked if most[name] < asked[name]), key=lambda name: not is_extended(name))
    if not short:
        every = ", ".join(text(*one) for one in asked.items())
        return evidence.found(_CAUSES["not-enough-together"], which=which, asked=every)
    name, (word, field) = short[0], words_of(short[0])
    remedy = "add a node that has some"
    if most[name]:
        remedy = f"set {field} to {number(name, most[name])} or less (specbatch plan FILE shows what fits), or add a larger node"
    fields = {"asked": text(name, asked[name]), "which": which, "most": number(name, most[name]), "remedy": remedy}
    found = evidence.found(_CAUSES["not-enough"], **fields)
    return replace(found, cause=f"not-enough-{word}").seen(node_lines(nodes, name))


def _no_label(evidence: Evidence, among: Sequence[Node], spec: Object, devices: Mapping[str, Decimal]) -> Finding:
    """No node has the labels that are asked for, or none of those that have the devices."""
    what, fixes = dict[str, None](), dict[str, None]()
    for label, operator, values in (one for term in requirements(spec) for one in term):
        there = sorted({node.labels[label] for node in among if label in node.labels})
        if operator in {"In", "Exists"} and not (set(there) & set(values) if values else there):
            what[f"{label}={'|'.join(values)}" if values else label] = None
            fixes |= {f"{label}: {nearest(values[0], there, cutoff=0.4) or listed(there)}": None} if there else {}
    having = f" that has {' and '.join(text(*one) for one in devices.items())}" if devices else ""
    wanted = f"has the label {', '.join(what)}" if what else "matches the node selector and affinity"
    others = f"; the nodes have {'; '.join(fixes)}" if fixes else ""
    found = evidence.found(_CAUSES["node-selector"], having=having, what=wanted, fixes=others)
    return found.seen([f"nodes{having}: {listed(node.name for node in among)}"])


def _kept_off(evidence: Evidence, nodes: Sequence[Node], spec: Object) -> Finding:
    """Nodes that would do have taints, that of most of them being the one to tolerate; or they are out of service."""
    taints = [(node, taint) for node in nodes for taint in node.untolerated(spec)]
    own = [_taint_fields(taint) for _, taint in taints if not re.match(_NODE_STATES, str(taint.get("key", "")))]
    cordoned = [node.name for node in nodes if node.cordoned]
    named = f"node{'s' if len(nodes) > 1 else ''} {listed(node.name for node in nodes)}"
    chosen = Counter(taint for taint, _ in own).most_common(1)[0][0] if own else ""
    cause = "taint-not-tolerated" if own else "nodes-cordoned" if len(cordoned) == len(nodes) else "nodes-not-ready"
    fields = {"taint": chosen, "toleration": dict(own).get(chosen), "node": [*cordoned, nodes[0].name][0]}
    lines = [f"node {node.name}: taint {_taint_fields(taint)[0]}" for node, taint in taints[:6]]
    return evidence.found(_CAUSES[cause], nodes=named, **fields).seen(lines)


def _taint_fields(taint: Mapping[str, str]) -> tuple[str, str]:
    """A taint as kubectl writes it, key=value:effect, and the toleration to write into a spec."""
    key, value, effect = (taint.get(part) or "" for part in ("key", "value", "effect"))
    shown = key + (f"={value}" if value else "") + (f":{effect}" if effect else "")
    wanted = f'operator: Equal, value: "{value}"' if value else "operator: Exists"
    return shown, f"{{key: {key}, {wanted}{f', effect: {effect}' if effect else ''}}}"


def _by_message(evidence: Evidence, pod: Object, said: Said) -> Finding | None:
    """By the scheduler's message alone: resources first, then the other filters."""
    reasons = replace(said, text=said.text.partition("preemption:")[0])
    lacking = re.findall(r"Insufficient ([^\s,]*[^\s,.])", reasons.text)
    if lacking:
        name = min(lacking, key=lambda one: (not is_extended(one), one))
        asked, (word, field) = text(name, requests(pod["spec"]).get(name, Decimal(0))), words_of(name)
        found = evidence.recognise([_CAUSES["never"], _CAUSES["taken"]], said, asked=asked, field=field)
        assert found is not None  # the last of them is of any message
        if found.cause == "never":
            return replace(found, cause=f"not-enough-{word}")
        lines = node_lines(evidence.nodes_with_pods, name)
        return replace(found, cause=f"{word}-taken", evidence=(*lines, *found.evidence))
    wanted = ", ".join(f"{key}={value}" for key, value in (pod["spec"].get("nodeSelector") or {}).items())
    what = f"that could be used has the label {wanted}" if wanted else "that could be used matches the node affinity"
    named = re.search(_TAINT, reasons.text)
    taint, toleration = _taint_fields(named.groupdict() if named else {})
    fields = {"nodes": "some nodes", "node": "NODE", "what": what, "taint": taint, "toleration": toleration}
    return evidence.recognise(_FILTERS, reasons, **fields)
