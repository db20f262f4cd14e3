"""Whether some node would have the pods: labels, GPUs, taints. Warnings only: where nodes come on demand, the right one may not be there yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal

from specbatch.cluster.client.kinds import NODES, Object
from specbatch.cluster.manifests.pod_requests import is_extended, requests
from specbatch.cluster.preflight.findings import Case, Finding, warning
from specbatch.cluster.preflight.node_fit import selects, taint_text, untolerated, values_of, wanted_labels
from specbatch.cluster.preflight.nodes import Node

_SHOWN = 6
_ON_DEMAND = "no trouble where nodes come on demand"


def check_nodes(case: Case) -> Iterator[Finding]:
    """The first thing that keeps the pods off every node, and every resource of which no node has enough."""
    nodes = [Node(node) for node in case.cluster.list(NODES)]
    chosen = [node for node in nodes if selects(node, case.pod)]
    if not nodes:
        yield warning("nodes", "there is none", _ON_DEMAND)
        return
    if not chosen:
        yield _unselected(case.pod, nodes)
        return
    short = list(_short(case.pod, chosen))
    yield from short
    if not short:
        yield from _kept_off(case.pod, chosen)


def _unselected(pod: Object, nodes: Sequence[Node]) -> Finding:
    """What is asked, and the values that there are."""
    wanted = wanted_labels(pod)
    asked = ", ".join(f"{key}={'|'.join(values) or '(any)'}" for key, values in wanted.items())
    there = "; ".join(f"{key}: {', '.join(values_of(nodes, key)[:_SHOWN]) or 'on no node'}" for key in wanted)
    return warning("job.nodeSelector", f"none of {_nodes(len(nodes))} has {asked}", f"there is {there}; {_ON_DEMAND}")


def _short(pod: Object, nodes: Sequence[Node]) -> Iterator[Finding]:
    """Resources of which a pod asks more than any node has, be it empty."""
    for resource, asked in requests(pod).items():
        most = max(node.capacity(resource) for node in nodes)
        if asked <= most:
            continue
        if not is_extended(resource):
            have = f"the largest of {_nodes(len(nodes))} has {_number(most)}"
            yield warning(
                f"job.resources ({resource})",
                f"a pod asks for {_number(asked)}, and {have}",
                f"ask for less; {_ON_DEMAND}",
            )
        elif not most:
            yield warning(
                f"placement.gpus ({resource})",
                f"no node has any {resource}, and a pod asks for {_number(asked)}",
                f"is the device plugin running, is job.gpuResourceName right? specbatch doctor tells; {_ON_DEMAND}",
            )
        else:
            yield warning(
                f"placement.gpus ({resource})",
                f"a pod asks for {_number(asked)} on one node; {_has(nodes, resource)}",
                f"set placement.gpus to at most {_number(most)}; {_ON_DEMAND}",
            )


def _kept_off(pod: Object, nodes: Sequence[Node]) -> Iterator[Finding]:
    """Nodes that are large enough, and none of them open to the pods."""
    large = [node for node in nodes if all(node.capacity(name) >= value for name, value in requests(pod).items())]
    if not large:
        yield warning(
            "nodes",
            f"no single one of {_nodes(len(nodes))} has all that a pod asks for",
            f"compare job.resources with kubectl describe nodes; {_ON_DEMAND}",
        )
        return
    if any(not node.cordoned and not untolerated(node, pod) for node in large):
        return
    taints = Counter(taint_text(taint) for node in large for taint in untolerated(node, pod))
    if taints:
        yield warning(
            "job.tolerations",
            f"every node that is large enough is tainted: {', '.join(taint for taint, _ in taints.most_common(_SHOWN))}",
            f"tolerate it in job.tolerations, if that is meant for you; {_ON_DEMAND}",
        )
    else:
        yield warning("nodes", "every node that is large enough is cordoned", "kubectl uncordon NODE, when it may be")


def _has(nodes: Iterable[Node], resource: str) -> str:
    """`node-a has 8, node-b 4`."""
    amounts = sorted(((node.capacity(resource), node.name) for node in nodes), reverse=True)
    shown = [
        f"{name} {'has ' if place == 0 else ''}{_number(value)}" for place, (value, name) in enumerate(amounts[:_SHOWN])
    ]
    more = len(amounts) - _SHOWN
    return ", ".join(shown) + (f", and {more} more have no more" if more > 0 else "")


def _nodes(count: int) -> str:
    return "one node" if count == 1 else f"{count} nodes"


def _number(value: Decimal) -> str:
    """Bytes in GiB; everything else as it is."""
    gib = Decimal(2**30)
    return f"{value / gib:.1f} GiB" if value >= gib else f"{value.normalize():f}"
