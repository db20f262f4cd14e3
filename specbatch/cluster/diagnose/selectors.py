"""Nodes that would be large enough, but are not for this pod: labels, taints, cordoned or not ready."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal

from specbatch.api.hints import nearest
from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.amounts import listed, text
from specbatch.cluster.diagnose.finding import Finding
from specbatch.cluster.preflight.node_fit import selects, taint_text, untolerated, values_of, wanted_labels
from specbatch.cluster.preflight.nodes import Node

_NODE_STATES = "node.kubernetes.io/"  # taints that the control plane sets while something is the matter with a node


def no_node_matches(
    nodes: Sequence[Node], large: Sequence[Node], spec: Object, wanted: Mapping[str, Decimal]
) -> Finding:
    """No node has the labels that are asked for, or none of those that are large enough."""
    among = large if wanted else nodes
    problems: list[str] = []
    fixes: list[str] = []
    for label, values in wanted_labels(spec).items():
        if values and not any(node.labels.get(label) in values for node in among):
            existing = values_of(among, label)
            problems.append(f"{label}={'|'.join(values)}")
            guess = nearest(values[0], existing, cutoff=0.4)
            if existing:
                fixes.append(f"{label}: {guess or listed(existing)}")
        elif not values and not any(label in node.labels for node in among):
            problems.append(label)
    large_enough = f" that has {' and '.join(text(name, value) for name, value in wanted.items())}" if wanted else ""
    said = f"has the label {', '.join(problems)}" if problems else "matches the node selector and affinity"
    matching = [node.name for node in nodes if selects(node, spec)]
    remedy = (
        f"the nodes have {'; '.join(fixes)}: write that in spec.job.nodeSelector (or affinity), or leave the label out"
        if fixes
        else "take the label out of spec.job.nodeSelector and spec.job.affinity, or label a node"
    )
    return Finding(
        cause="node-selector",
        sentence=f"no node{large_enough} {said}",
        remedy=remedy,
        evidence=(
            f"node{'s' if len(among) > 1 else ''}{large_enough}: {listed([node.name for node in among])}",
            f"nodes that match: {listed(matching) or 'none'}",
        ),
    )


def taint_not_tolerated(nodes: Sequence[Node], spec: Object) -> Finding:
    """Every node that would do has a taint; that of most of them is the one to tolerate."""
    taints = [(node, taint) for node in nodes for taint in untolerated(node, spec)]
    states = [(node, taint) for node, taint in taints if str(taint.get("key", "")).startswith(_NODE_STATES)]
    if len({node.name for node, _ in states}) == len(nodes):
        return nodes_not_ready(nodes)
    counts = Counter(taint_text(taint) for _, taint in taints if (_, taint) not in states)
    chosen = counts.most_common(1)[0][0]
    taint = next(taint for _, taint in taints if taint_text(taint) == chosen)
    has = "has" if len(nodes) == 1 else "have"
    return Finding(
        cause="taint-not-tolerated",
        sentence=f"{_nodes(nodes)} would do, but {has} the taint {chosen}, which the spec does not tolerate",
        remedy=f"if you may use them, add to spec.job.tolerations: {toleration_text(taint)}",
        evidence=tuple(f"node {node.name}: taint {taint_text(taint)}" for node, taint in taints[:6]),
    )


def toleration_text(taint: Object) -> str:
    """The toleration to write into a spec."""
    value = f"operator: Equal, value: {taint['value']}" if taint.get("value") else "operator: Exists"
    effect = f", effect: {taint['effect']}" if taint.get("effect") else ""
    return f"{{key: {taint.get('key', '')}, {value}{effect}}}"


def nodes_not_ready(nodes: Sequence[Node]) -> Finding:
    """The nodes that would do are out of service."""
    cordoned = [node for node in nodes if node.cordoned]
    broken = [node for node in nodes if node not in cordoned]
    is_are = "is" if len(nodes) == 1 else "are"
    state = "cordoned" if not broken else "not ready" if not cordoned else "cordoned or not ready"
    remedy = (
        f"ask an admin why; if its work is done: kubectl uncordon {cordoned[0].name}"
        if cordoned
        else f"ask an admin: kubectl describe node {broken[0].name} says what is the matter with it"
    )
    return Finding(
        cause="nodes-cordoned" if not broken else "nodes-not-ready",
        sentence=f"{_nodes(nodes)} would do, but {is_are} {state}",
        remedy=remedy,
        evidence=tuple(
            f"node {node.name}: {'cordoned' if node.cordoned else 'not ready'}"
            + "".join(f", taint {taint_text(taint)}" for taint in node.taints)
            for node in nodes[:6]
        ),
    )


def _nodes(nodes: Sequence[Node]) -> str:
    names = [node.name for node in nodes]
    return f"node{'s' if len(names) > 1 else ''} {listed(names)}"
