"""Whether the namespace is there, and whether everything is permitted that a submit will do: one message with all that is missing."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from specbatch.cluster.client.kinds import CONFIG_MAPS, JOBS, NAMESPACES, PODS, Kind
from specbatch.cluster.preflight.findings import Case, Finding, error

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster

_AT_ONCE = 8
_ALWAYS: list[tuple[str, Kind, str]] = [
    ("list", JOBS, ""),
    ("get", JOBS, ""),
    ("create", JOBS, ""),
    ("patch", JOBS, ""),
    ("get", CONFIG_MAPS, ""),
    ("create", CONFIG_MAPS, ""),
    ("list", PODS, ""),
]


@dataclass(frozen=True, slots=True)
class Uses:
    """What a submit will do beside creating the Job.

    Args:
        wait: watch it.
        follow: read its pods' logs.
        force: delete others.
    """

    wait: bool = False
    follow: bool = False
    force: bool = False

    @property
    def needed(self) -> list[tuple[str, Kind, str]]:
        """Verb, kind and subresource of everything."""
        watching = [("watch", JOBS, "")] if self.wait or self.follow else []
        following = [("watch", PODS, ""), ("get", PODS, "log")] if self.follow else []
        forcing = [("delete", JOBS, ""), ("delete", PODS, "")] if self.force else []
        return [*_ALWAYS, *watching, *following, *forcing]


def check_namespace(case: Case) -> Iterator[Finding]:
    """Whether it exists; who has rights in a namespace only may not ask, and hears it when something is created there."""
    name = case.cluster.namespace
    namespace = case.cluster.find(NAMESPACES, name)
    if namespace is None:
        yield error(case.namespace, "does not exist", f"kubectl create namespace {name}, or name another with -n")
    elif (namespace.get("status") or {}).get("phase") == "Terminating":
        yield error(
            case.namespace, "is being deleted", "wait until it is gone and create it again, or name another with -n"
        )


def check_permissions(cluster: Cluster, uses: Uses) -> Iterator[Finding]:
    """What is not permitted; nothing where the cluster does not tell."""
    needed = uses.needed
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = pool.map(lambda one: cluster.can(one[0], one[1], subresource=one[2]), needed)
        missing = [one for one, permitted in zip(needed, answers, strict=True) if permitted is False]
    if missing:
        yield error(
            f"namespace {cluster.namespace}",
            f"not permitted: {_listed(missing)}",
            f"{'is its name right? If so, ' if len(missing) == len(needed) else ''}ask whoever runs the cluster for the Role of k8s/: "
            f"kubectl apply -n {cluster.namespace} -f k8s/submitter.yaml, with you in its RoleBinding",
        )


def _listed(missing: list[tuple[str, Kind, str]]) -> str:
    """`create, patch jobs; list pods`."""
    by_resource: dict[str, list[str]] = {}
    for verb, kind, subresource in missing:
        resource = f"{kind.plural}/{subresource}" if subresource else kind.plural
        by_resource.setdefault(resource, []).append(verb)
    return "; ".join(f"{', '.join(verbs)} {resource}" for resource, verbs in by_resource.items())
