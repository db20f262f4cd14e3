"""Whether a node would have a pod, by taints, selector and affinity: the scheduler's rules that can be told from the two objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.preflight.nodes import Node


def untolerated(node: Node, spec: Object) -> list[Object]:
    """The node's taints that a pod's spec does not tolerate; that of a cordoned node is not one of them."""
    tolerations = spec.get("tolerations") or ()
    taints = (taint for taint in node.taints if taint.get("key") != "node.kubernetes.io/unschedulable")
    return [taint for taint in taints if not any(tolerates(one, taint) for one in tolerations)]


def tolerates(toleration: Object, taint: Object) -> bool:
    """Whether one toleration is for one taint."""
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    if toleration.get("operator") == "Exists":
        return True
    return bool(toleration.get("key")) and (toleration.get("value") or "") == (taint.get("value") or "")


def taint_text(taint: Object) -> str:
    """As kubectl writes it: key=value:effect."""
    value = f"={taint['value']}" if taint.get("value") else ""
    return f"{taint.get('key', '')}{value}:{taint.get('effect', '')}"


def selects(node: Node, spec: Object) -> bool:
    """Whether a node has every label that a pod's spec requires, by nodeSelector and node affinity."""
    wanted = spec.get("nodeSelector") or {}
    if any(node.labels.get(key) != value for key, value in wanted.items()):
        return False
    terms = affinity_terms(spec)
    return not terms or any(_term_matches(node, term) for term in terms)


def affinity_terms(spec: Object) -> Sequence[Object]:
    """The required terms of a pod's node affinity; one of them must match."""
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    return (affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get("nodeSelectorTerms") or ()


def wanted_labels(spec: Object) -> dict[str, Sequence[str]]:
    """The labels that a pod's spec names, each with the values that would do; none where any value does."""
    wanted: dict[str, Sequence[str]] = {key: [value] for key, value in (spec.get("nodeSelector") or {}).items()}
    for term in affinity_terms(spec):
        for expression in term.get("matchExpressions") or ():
            if expression.get("operator") in {"In", "Exists"}:
                wanted.setdefault(expression["key"], expression.get("values") or ())
    return wanted


def values_of(nodes: Iterable[Node], label: str) -> list[str]:
    """The values that a label has on the nodes."""
    return sorted({node.labels[label] for node in nodes if label in node.labels})


def _term_matches(node: Node, term: Object) -> bool:
    """Every expression of a term; an empty term matches nothing."""
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    return all(_matches(node.labels, one) for one in expressions) and all(
        _matches({"metadata.name": node.name}, one) for one in fields
    )


def _matches(labels: Mapping[str, str], expression: Object) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values") or ()
    match expression.get("operator"):
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as operator:
            return _compared(value, values, greater=operator == "Gt")
        case _:
            return False


def _compared(value: str | None, values: Sequence[str], *, greater: bool) -> bool:
    try:
        number, bound = int(value or ""), int(values[0])
    except (ValueError, IndexError):
        return False
    return number > bound if greater else number < bound
