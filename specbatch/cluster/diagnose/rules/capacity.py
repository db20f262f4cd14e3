"""Whether some node would take a pod: labels, resources, taints, service, in this order; the first that leaves no node is the cause."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal

from specbatch.api.hints import nearest
from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Finding
from specbatch.cluster.diagnose.nodes import Node, device_resources, taint_text, wanted_labels
from specbatch.cluster.diagnose.quantities import (
    cause_word,
    listed,
    node_lines,
    number,
    spec_field,
    text,
)
from specbatch.cluster.manifests.pod_requests import is_extended, requests

_NODE_STATES = "node.kubernetes.io/"  # taints that the control plane sets while something is the matter with a node


def nodes(evidence: Evidence, pod: Object) -> Iterator[Finding]:
    """For a pod that does not exist yet: what keeps it off every node, however empty."""
    if evidence.nodes is not None and not evidence.nodes:
        yield Finding(cause="no-nodes", sentence="the cluster has no nodes at all", remedy="add one")
    elif finding := fit(evidence, pod):
        yield finding


def fit(evidence: Evidence, pod: Object) -> Finding | None:
    """What keeps a pod off every node, be it empty; None where some node would do, or nodes cannot be read."""
    nodes, spec = evidence.nodes, pod["spec"]
    if not nodes:
        return None
    asked = requests(spec)
    devices = {name: value for name, value in asked.items() if is_extended(name) and value}
    for name, value in devices.items():
        if not any(node.capacity(name) for node in nodes):
            return _unknown_resource(nodes, name, value)
    large = [node for node in nodes if node.has(devices)]
    selected = [node for node in nodes if node.selected(spec)]
    with_devices = [node for node in selected if all(node.capacity(name) for name in devices)]
    if not selected or (large and not with_devices):
        return _no_label(large or nodes, spec, devices if large else {})
    fitting = [node for node in selected if node.has(asked)]
    if not fitting:
        return _too_small(selected, asked, selective=len(selected) < len(nodes))
    open_to_it = [node for node in fitting if not node.untolerated(spec)]
    if not open_to_it:
        return _tainted(fitting, spec)
    return None if any(node.usable for node in open_to_it) else _out_of_service(open_to_it)


def toleration_text(taint: Object) -> str:
    """The toleration to write into a spec."""
    value = f"operator: Equal, value: {taint['value']}" if taint.get("value") else "operator: Exists"
    effect = f", effect: {taint['effect']}" if taint.get("effect") else ""
    return f"{{key: {taint.get('key', '')}, {value}{effect}}}"


def _unknown_resource(nodes: Sequence[Node], name: str, asked: Decimal) -> Finding:
    labelled = [node.name for node in nodes if node.labelled_gpu]
    known = device_resources(nodes)
    sentence = f"each pod asks for {text(name, asked)}, and no node offers {name}"
    if known:
        remedy = f"set spec.job.gpuResourceName to what the nodes offer: {listed(known)}"
    elif labelled:
        sentence += f", though the labels of {listed(labelled)} say that GPUs are there: the device plugin does not run"
        remedy = (
            "ask an admin to start the device plugin (kubectl get pods -A | grep -i device-plugin; or the GPU operator)"
        )
    else:
        remedy = "add a node with GPUs and its device plugin, or run on the CPU: spec.placement.gpus: 0"
    return Finding(cause="gpu-resource-unknown", sentence=sentence, remedy=remedy)


def _too_small(nodes: Sequence[Node], asked: Mapping[str, Decimal], *, selective: bool) -> Finding:
    which = "no node that matches the spec's selector" if selective else "no node"
    short = [name for name in asked if max(node.capacity(name) for node in nodes) < asked[name]]
    if not short:
        return Finding(
            cause="not-enough-together",
            sentence=f"{which} has all that a pod asks for: {', '.join(text(*one) for one in asked.items())}",
            remedy="compare spec.job.resources with kubectl describe nodes",
        )
    name = min(short, key=lambda one: not is_extended(one))
    most = max(node.capacity(name) for node in nodes)
    less = (
        f"set {spec_field(name)} to {number(name, most)} or less (specbatch plan FILE shows what fits), or "
        if most
        else ""
    )
    return Finding(
        cause=f"not-enough-{cause_word(name)}",
        sentence=f"each pod asks for {text(name, asked[name])}, and {which} has more than {number(name, most)}",
        remedy=f"{less}add a {'larger node' if most else 'node that has some'}",
        evidence=tuple(node_lines(nodes, name)),
    )


def _no_label(among: Sequence[Node], spec: Object, devices: Mapping[str, Decimal]) -> Finding:
    """No node has the labels that are asked for, or none of those that have the devices."""
    wanted = {
        label: values
        for label, values in wanted_labels(spec).items()
        if not any(label in node.labels and (not values or node.labels[label] in values) for node in among)
    }
    there = {label: sorted({node.labels[label] for node in among if label in node.labels}) for label in wanted}
    fixes = [
        f"{label}: {nearest(wanted[label][0], known, cutoff=0.4) or listed(known)}"
        for label, known in there.items()
        if known
    ]
    that_has = f" that has {' and '.join(text(*one) for one in devices.items())}" if devices else ""
    labels = ", ".join(f"{label}={'|'.join(values)}" if values else label for label, values in wanted.items())
    return Finding(
        cause="node-selector",
        sentence=f"no node{that_has} {f'has the label {labels}' if wanted else 'matches the node selector and affinity'}",
        remedy=f"the nodes have {'; '.join(fixes)}: write that in spec.job.nodeSelector (or affinity), or leave the label out"
        if fixes
        else "take the label out of spec.job.nodeSelector and spec.job.affinity, or label a node",
        evidence=(f"nodes{that_has}: {listed([node.name for node in among])}",),
    )


def _tainted(nodes: Sequence[Node], spec: Object) -> Finding:
    """Every node that would do has a taint; that of most of them is the one to tolerate."""
    taints = [(node, taint) for node in nodes for taint in node.untolerated(spec)]
    own = [taint for _, taint in taints if not str(taint.get("key", "")).startswith(_NODE_STATES)]
    if not own:
        return _out_of_service(nodes)
    chosen = Counter(map(taint_text, own)).most_common(1)[0][0]
    taint = next(taint for taint in own if taint_text(taint) == chosen)
    return Finding(
        cause="taint-not-tolerated",
        sentence=f"{_named(nodes)} would do, but for the taint {chosen}, which the spec does not tolerate",
        remedy=f"if you may use them, add to spec.job.tolerations: {toleration_text(taint)}",
        evidence=tuple(f"node {node.name}: taint {taint_text(taint)}" for node, taint in taints[:6]),
    )


def _out_of_service(nodes: Sequence[Node]) -> Finding:
    cordoned = [node for node in nodes if node.cordoned]
    cause = "nodes-cordoned" if len(cordoned) == len(nodes) else "nodes-not-ready"
    state = "cordoned" if cause == "nodes-cordoned" else "cordoned or not ready" if cordoned else "not ready"
    see = (
        f"kubectl uncordon {cordoned[0].name}, when its work is done"
        if cordoned
        else f"kubectl describe node {nodes[0].name}"
    )
    return Finding(
        cause=cause,
        sentence=f"{_named(nodes)} would do, but {'is' if len(nodes) == 1 else 'are'} {state}",
        remedy=f"ask an admin: {see}",
    )


def _named(nodes: Sequence[Node]) -> str:
    return f"node{'s' if len(nodes) > 1 else ''} {listed([node.name for node in nodes])}"
