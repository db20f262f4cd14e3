"""Why a pod fits nowhere, told from the nodes themselves: filter by filter, and the first that leaves no node is the cause."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.amounts import field_of, holders, listed, node_lines, number, text, word_of
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Finding
from specbatch.cluster.diagnose.selectors import no_node_matches, nodes_not_ready, taint_not_tolerated
from specbatch.cluster.manifests.pod_requests import devices, is_extended, requests
from specbatch.cluster.preflight.node_fit import selects, untolerated
from specbatch.cluster.preflight.nodes import Node, extended_resources


def judged_by_nodes(evidence: Evidence, pod: Object) -> Finding | None:  # noqa: PLR0911 - a cause a return
    """The cause; None where the nodes can't be read, or some node would do."""
    nodes, spec = evidence.nodes, pod["spec"]
    if nodes is None:
        return None
    asked = requests(spec)
    wanted = {name: Decimal(count) for name, count in devices(spec).items()}
    for name, value in wanted.items():
        if not any(node.capacity(name) for node in nodes):
            return _unknown_resource(nodes, name, value)
    large = [node for node in nodes if _holds(node, wanted)]
    matching = [node for node in nodes if selects(node, spec)]
    if not any(node in large for node in matching):
        with_device = [node for node in matching if all(node.capacity(name) for name in wanted)]
        if with_device or not large:
            return _too_small(
                with_device or nodes, wanted, among_matching=len(with_device) < len(nodes) and bool(large)
            )
        return no_node_matches(nodes, large, spec, wanted)
    fitting = [node for node in large if node in matching]
    tolerating = [node for node in fitting if not untolerated(node, spec)]
    if not tolerating:
        return taint_not_tolerated(fitting, spec)
    usable = [node for node in tolerating if node.ready and not node.cordoned]
    if not usable:
        return nodes_not_ready(tolerating)
    others = {name: value for name, value in asked.items() if name not in wanted} | {"pods": Decimal(1)}
    if not any(_holds(node, others) for node in usable):
        return _too_small(usable, {name: others[name] for name in _lacking(usable, others, free=False)})
    roomy = [node for node in usable if _holds(node, others)]
    return _taken(roomy, {**wanted, **others})


def _holds(node: Node, asked: dict[str, Decimal]) -> bool:
    return all(node.capacity(name) >= value for name, value in asked.items())


def _lacking(nodes: Sequence[Node], asked: dict[str, Decimal], *, free: bool) -> list[str]:
    """The resources of which nodes have too little; devices first, then by the number of nodes."""
    counts: Counter[str] = Counter()
    for node in nodes:
        for name, value in asked.items():
            has = node.free(name) if free else node.capacity(name)
            counts[name] += has is not None and has < value
    return sorted(
        (name for name in counts if counts[name]), key=lambda name: (not is_extended(name), -counts[name], name)
    )


def _unknown_resource(nodes: Sequence[Node], name: str, asked: Decimal) -> Finding:
    labelled = [node.name for node in nodes if node.labelled_gpu]
    known = extended_resources(nodes)
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
    lines = [f"{len(nodes)} nodes, none of them with {name}", *([f"nodes offer {listed(known)}"] if known else [])]
    return Finding(cause="gpu-resource-unknown", sentence=sentence, remedy=remedy, evidence=tuple(lines))


def _too_small(nodes: Sequence[Node], asked: dict[str, Decimal], *, among_matching: bool = False) -> Finding:
    """Even an empty node would not do."""
    lacking = [name for name in asked if max(node.capacity(name) for node in nodes) < asked[name]]
    name = next(iter(lacking), next(iter(asked)))
    most = max(node.capacity(name) for node in nodes)
    which = "no node that matches the spec's selector" if among_matching else "no node"
    sentence = f"each pod asks for {text(name, asked[name])}, and {which} has more than {number(name, most)}"
    if name == "pods":
        sentence, remedy = "no node may hold any pod", "ask an admin: the nodes' maxPods is 0"
    elif is_extended(name):
        less = (
            f"set spec.placement.gpus to {number(name, most)} or less (specbatch plan FILE shows what fits), or "
            if most
            else ""
        )
        remedy = f"{less}add a {'larger node' if most else 'node that has some'}"
    else:
        remedy = f"set {field_of(name)} to less than {number(name, most)}, or add a larger node"
    return Finding(
        cause=f"not-enough-{word_of(name)}", sentence=sentence, remedy=remedy, evidence=tuple(node_lines(nodes, name))
    )


def _taken(nodes: Sequence[Node], asked: dict[str, Decimal]) -> Finding | None:
    """Large enough nodes are there, and full; None where one has room, or that cannot be read."""
    free = {node.name: node for node in nodes if all((node.free(name) or 0) >= value for name, value in asked.items())}
    if free or any(node.pods is None for node in nodes):
        return None
    name = _lacking(nodes, asked, free=True)[0]
    best = max(nodes, key=lambda node: node.free(name) or Decimal(0))
    most = max(best.free(name) or Decimal(0), Decimal(0))
    if name == "pods":
        sentence = "every node that would do holds as many pods as it may"
    else:
        sentence = (
            f"each pod asks for {text(name, asked[name])}, and no node has so much free now: "
            f"the most is {number(name, most)} (node {best.name})"
        )
    sooner = f"; to start sooner, ask for less: {field_of(name)}" if name != "pods" else ""
    return Finding(
        cause=f"{word_of(name)}-taken",
        sentence=sentence,
        remedy=f"wait: the pods start by themselves as soon as there is room{sooner}",
        evidence=(*node_lines(nodes, name), *(holders(nodes, name) if is_extended(name) else ())),
        mood="waiting",
    )
