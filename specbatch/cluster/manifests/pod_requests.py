"""The resource requests of a pod, as the scheduler counts them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

from specbatch.api.quantity import quantity_value
from specbatch.cluster.client.kinds import Object

ENDED = frozenset({"Succeeded", "Failed"})


def amount(quantity: object) -> Decimal:
    """The number that a quantity stands for; 0 where it is invalid."""
    try:
        return quantity_value(str(quantity))
    except ValueError:
        return Decimal(0)


def requests(spec: Object) -> dict[str, Decimal]:
    """The requests of a pod's spec, by resource.

    The sum of its containers, or the largest init container if that is more; sidecars (init containers that keep running) count with both.
    A limit without a request is a request, as the API server fills it in. Requests of the whole pod override those of its containers.

    Source: https://kubernetes.io/docs/concepts/workloads/pods/init-containers/#resource-sharing-within-containers
    """
    total = summed(_of(container) for container in spec.get("containers") or ())
    sidecars: dict[str, Decimal] = {}
    largest: dict[str, Decimal] = {}
    for container in spec.get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            sidecars = summed([sidecars, _of(container)])
            largest = _largest(largest, sidecars)
        else:
            largest = _largest(largest, summed([sidecars, _of(container)]))
    asked = _largest(summed([total, sidecars]), largest) | _of(spec)
    overhead = {name: amount(value) for name, value in (spec.get("overhead") or {}).items()}
    return summed([asked, overhead])


def is_extended(resource: str) -> bool:
    """Whether a device plugin advertises it: nvidia.com/gpu, not cpu, memory or hugepages-2Mi."""
    return "/" in resource and not resource.startswith("kubernetes.io/")


def _of(thing: Object) -> dict[str, Decimal]:
    resources = thing.get("resources") or {}
    asked = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return {name: amount(value) for name, value in asked.items()}


def summed(parts: Iterable[Mapping[str, Decimal]]) -> dict[str, Decimal]:
    """Quantities of the same name added up."""
    total: dict[str, Decimal] = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total.get(name, Decimal(0)) + value
    return total


def _largest(one: Mapping[str, Decimal], other: Mapping[str, Decimal]) -> dict[str, Decimal]:
    return {name: max(one.get(name, Decimal(0)), other.get(name, Decimal(0))) for name in {**one, **other}}
