"""Whether some node would take a pod: labels, resources, taints, service, in this order; the first that leaves no node is the cause."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from specbatch.api.hints.nearest import nearest
from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Cause, Finding, by_name
from specbatch.cluster.diagnose.nodes import Node, device_resources, taint_text, wanted_labels
from specbatch.cluster.diagnose.quantities import cause_word, listed, node_lines, number, spec_field, text
from specbatch.cluster.manifests.pod_requests import is_extended, requests

_NODE_STATES = "node.kubernetes.io/"  # taints that the control plane sets while something is the matter with a node

NO_NODES = Cause("no-nodes", r"no nodes available to schedule pods",
    "the cluster has no nodes at all",
    "add one, or wait for the autoscaler; kubectl get nodes shows when it is there")  # fmt: skip
_CAUSES = by_name(
    Cause("gpu-resource-unknown", "",
        "each pod asks for {asked}, and no node offers {name}",
        "add a node with GPUs and its device plugin, or run on the CPU: spec.placement.gpus: 0"),
    Cause("other-gpu-resource", "",
        "each pod asks for {asked}, and no node offers {name}",
        "set spec.job.gpuResourceName to what the nodes offer: {known}"),
    Cause("no-device-plugin", "",
        "each pod asks for {asked}, and no node offers {name}, though the labels of {labelled} say that GPUs are there: the device plugin does not run",
        "ask an admin to start the device plugin (kubectl get pods -A | grep -i device-plugin; or the GPU operator)"),
    Cause("not-enough", "", "each pod asks for {asked}, and {which} has more than {most}", "{remedy}"),
    Cause("not-enough-together", "",
        "{which} has all that a pod asks for: {asked}",
        "compare spec.job.resources with kubectl describe nodes"),
    Cause("node-selector", "",
        "no node{having} {what}",
        "correct spec.job.nodeSelector and spec.job.affinity, or label a node{fixes}"),
    Cause("taint-not-tolerated", "",
        "{nodes} would do, but for the taint {taint}, which the spec does not tolerate",
        "if you may use them, add to spec.job.tolerations: {toleration}"),
    Cause("nodes-cordoned", "", "{nodes} would do, but no new pods may start there (cordoned)", "ask an admin: kubectl uncordon {node}, when its work is done"),
    Cause("nodes-not-ready", "", "{nodes} would do, but out of service (not ready)", "ask an admin: kubectl describe node {node} says what is the matter"),
)  # fmt: skip


def nodes(evidence: Evidence, pod: Object) -> Iterator[Finding]:
    """For a pod that does not exist yet: what keeps it off every node, however empty."""
    if evidence.nodes is not None and not evidence.nodes:
        yield NO_NODES.finding()
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


def _unknown_resource(nodes: Sequence[Node], name: str, asked: Decimal) -> Finding:
    labelled, known = [node.name for node in nodes if node.labelled_gpu], device_resources(nodes)
    cause = "other-gpu-resource" if known else "no-device-plugin" if labelled else "gpu-resource-unknown"
    fields = {"asked": text(name, asked), "name": name, "known": listed(known), "labelled": listed(labelled)}
    return replace(_CAUSES[cause].finding(**fields), cause="gpu-resource-unknown")


def _too_small(nodes: Sequence[Node], asked: Mapping[str, Decimal], *, selective: bool) -> Finding:
    which = "no node that matches the spec's selector" if selective else "no node"
    short = [name for name in asked if max(node.capacity(name) for node in nodes) < asked[name]]
    if not short:
        return _CAUSES["not-enough-together"].finding(which=which, asked=", ".join(text(*one) for one in asked.items()))
    name = min(short, key=lambda one: not is_extended(one))
    most = max(node.capacity(name) for node in nodes)
    less = f"set {spec_field(name)} to {number(name, most)} or less (specbatch plan FILE shows what fits), or "
    found = _CAUSES["not-enough"].finding(
        which=which,
        asked=text(name, asked[name]),
        most=number(name, most),
        remedy=f"{less}add a larger node" if most else "add a node that has some",
    )
    return replace(found, cause=f"not-enough-{cause_word(name)}").seen(node_lines(nodes, name))


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
    labels = ", ".join(f"{label}={'|'.join(values)}" if values else label for label, values in wanted.items())
    having = f" that has {' and '.join(text(*one) for one in devices.items())}" if devices else ""
    found = _CAUSES["node-selector"].finding(
        having=having,
        what=f"has the label {labels}" if wanted else "matches the node selector and affinity",
        fixes=f"; the nodes have {'; '.join(fixes)}" if fixes else "",
    )
    return found.seen([f"nodes{having}: {listed([node.name for node in among])}"])


def _tainted(nodes: Sequence[Node], spec: Object) -> Finding:
    """Every node that would do has a taint; that of most of them is the one to tolerate."""
    taints = [(node, taint) for node in nodes for taint in node.untolerated(spec)]
    own = [taint for _, taint in taints if not str(taint.get("key", "")).startswith(_NODE_STATES)]
    if not own:
        return _out_of_service(nodes)
    chosen = Counter(map(taint_text, own)).most_common(1)[0][0]
    taint = next(taint for taint in own if taint_text(taint) == chosen)
    found = _CAUSES["taint-not-tolerated"].finding(nodes=_named(nodes), taint=chosen, toleration=_toleration(taint))
    return found.seen(f"node {node.name}: taint {taint_text(taint)}" for node, taint in taints[:6])


def _toleration(taint: Object) -> str:
    """The toleration to write into a spec."""
    value = f"operator: Equal, value: {taint['value']}" if taint.get("value") else "operator: Exists"
    effect = f", effect: {taint['effect']}" if taint.get("effect") else ""
    return f"{{key: {taint.get('key', '')}, {value}{effect}}}"


def _out_of_service(nodes: Sequence[Node]) -> Finding:
    cordoned = next((node.name for node in nodes if node.cordoned), "")
    cause = "nodes-cordoned" if all(node.cordoned for node in nodes) else "nodes-not-ready"
    return _CAUSES[cause].finding(nodes=_named(nodes), node=cordoned or nodes[0].name)


def _named(nodes: Sequence[Node]) -> str:
    return f"node{'s' if len(nodes) > 1 else ''} {listed([node.name for node in nodes])}"
