"""Why a pod fits nowhere, where the scheduler's message is all there is: nodes may not be read."""

from __future__ import annotations

from decimal import Decimal

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.amounts import field_of, text, word_of
from specbatch.cluster.diagnose.finding import Finding
from specbatch.cluster.diagnose.scheduler_message import SchedulerMessage
from specbatch.cluster.diagnose.selectors import toleration_text
from specbatch.cluster.manifests.pod_requests import is_extended, requests

_CONTROL_PLANE = {"node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"}
_NODE_STATES = "node.kubernetes.io/"


def judged_by_message(pod: Object, message: SchedulerMessage) -> Finding | None:
    """The cause, by the filter that nodes come to last: a node that lacks something has passed selector and taints."""
    spec = pod["spec"]
    lacking = [part.resource for part in message.parts if part.resource]
    for name in sorted(lacking, key=lambda one: (not is_extended(one), -message.lacking(one))):
        return _lacking(spec, name, message)
    taint = _taint(message)
    if taint is not None:
        return taint
    if message.says("node affinity/selector", "node affinity", "node selector"):
        return _selector(spec)
    if message.says("were unschedulable"):
        return Finding(
            cause="nodes-cordoned",
            sentence=f"{message.count('were unschedulable')} of {message.nodes} nodes are cordoned, and no other node would do",
            remedy="ask an admin: kubectl uncordon NODE, when its work is done",
        )
    return None


def _lacking(spec: Object, name: str, message: SchedulerMessage) -> Finding:
    if name == "pods":
        return Finding(
            cause="pods-taken",
            sentence=f"{message.lacking(name)} of {message.nodes} nodes hold as many pods as they may",
            remedy="wait: the pods start by themselves as soon as there is room; or ask an admin for another node",
            mood="waiting",
        )
    asked = text(name, requests(spec).get(name, Decimal(0)))
    besides = _besides(message)
    if message.helpless >= message.nodes:
        return Finding(
            cause=f"not-enough-{word_of(name)}",
            sentence=f"each pod asks for {asked}, and no node that it may use has so much, not even an empty one{besides}",
            remedy=f"lower {field_of(name)} to what one node has (an admin sees it: kubectl describe nodes), or add a larger node",
        )
    return Finding(
        cause=f"{word_of(name)}-taken",
        sentence=f"each pod asks for {asked}, and no node that it may use has so much free now{besides}",
        remedy=f"wait if a node has so much in all: the pods then start by themselves; if none has, lower {field_of(name)}",
        mood="waiting",
    )


def _besides(message: SchedulerMessage) -> str:
    """A tainted or excluded node may be the very one with GPUs: that cannot be seen from here."""
    tainted = sum(part.nodes for part in message.parts if part.is_taint and not _of_control_plane(part.taint))
    excluded = message.count("node affinity", "node selector")
    said = [
        *([f"{tainted} more {'has' if tainted == 1 else 'have'} a taint that is not tolerated"] if tainted else []),
        *([f"{excluded} more {'does' if excluded == 1 else 'do'} not match the selector"] if excluded else []),
    ]
    return f" ({'; '.join(said)})" if said else ""


def _of_control_plane(taint: tuple[str, str] | None) -> bool:
    return taint is not None and taint[0] in _CONTROL_PLANE


def _taint(message: SchedulerMessage) -> Finding | None:
    parts = [part for part in message.parts if part.is_taint]
    if not parts:
        return None
    named = [part for part in parts if part.taint and not _of_control_plane(part.taint)]
    usable = [part for part in named if part.taint and not part.taint[0].startswith(_NODE_STATES)]
    if named and not usable:
        return Finding(
            cause="nodes-not-ready",
            sentence=f"{sum(part.nodes for part in named)} of {message.nodes} nodes are out of service, and no other would do",
            remedy="ask an admin: kubectl describe nodes says what is the matter with them",
        )
    best = max(usable, key=lambda part: part.nodes, default=None)
    if best is not None and best.taint is not None:
        key, value = best.taint
        return Finding(
            cause="taint-not-tolerated",
            sentence=f"{best.nodes} of {message.nodes} nodes have the taint {key}{f'={value}' if value else ''}, which the spec does not tolerate, and no other would do",
            remedy=f"if you may use them, add to spec.job.tolerations: {toleration_text({'key': key, 'value': value})}",
        )
    if message.says("affinity", "selector") and all(_of_control_plane(part.taint) for part in parts if part.taint):
        return None  # the control plane is not meant; the selector is
    if all(_of_control_plane(part.taint) for part in parts):
        return Finding(
            cause="taint-not-tolerated",
            sentence="the cluster has no nodes but those of its control plane, which are tainted",
            remedy="add a worker node; on a cluster of one's own: kubectl taint nodes --all node-role.kubernetes.io/control-plane-",
        )
    return Finding(
        cause="taint-not-tolerated",
        sentence=f"{sum(part.nodes for part in parts)} of {message.nodes} nodes have a taint that the spec does not tolerate, and no other would do",
        remedy="ask an admin which (kubectl describe nodes | grep Taints), and add it to spec.job.tolerations if you may use them",
    )


def _selector(spec: Object) -> Finding:
    wanted = [f"{key}={value}" for key, value in (spec.get("nodeSelector") or {}).items()]
    what = f"has the label {', '.join(wanted)}" if wanted else "matches the node affinity"
    return Finding(
        cause="node-selector",
        sentence=f"no node that could be used {what}",
        remedy="correct spec.job.nodeSelector or spec.job.affinity (an admin sees the labels: kubectl get nodes --show-labels)",
    )
