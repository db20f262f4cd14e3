"""What each command does in a namespace, as RBAC sees it. The Role of k8s/ and of the chart allows all of it; tests compare them.

Nothing here is cluster-wide: what is read of nodes and the like, where it may be, stands in HELPFUL.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from specbatch.cluster.client import kinds
from specbatch.cluster.client.kinds import CLAIMS, CONFIG_MAPS, JOBS, PODS, Kind
from specbatch.cluster.diagnose.finding import Finding

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster

_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Permission:
    """A verb on a kind, or on a part of its objects (pods/log).

    Args:
        verb: get, list, watch, create, patch or delete.
        kind: of what.
        subresource: log or exec; empty for the objects themselves.
        all_namespaces: in every namespace.
    """

    verb: str
    kind: Kind
    subresource: str = ""
    all_namespaces: bool = False

    @property
    def resource(self) -> str:
        """As RBAC rules write it: pods/log."""
        return f"{self.kind.plural}/{self.subresource}" if self.subresource else self.kind.plural


def _on(kind: Kind, *verbs: str, part: str = "") -> tuple[Permission, ...]:
    return tuple(Permission(verb, kind, part) for verb in verbs)


_FIND = _on(JOBS, "get", "list")
_READ = (*_FIND, *_on(PODS, "list"))
_LOGS = _on(PODS, "get", part="log")

COMMANDS: Mapping[str, Sequence[Permission]] = {
    "submit": (
        *_READ,
        *_on(JOBS, "watch", "create", "patch", "delete"),
        *_on(CONFIG_MAPS, "get", "create", "patch", "delete"),
        *_on(PODS, "get", "watch", "create", "delete"),
        *_LOGS,
        *_on(CLAIMS, "list"),
    ),
    "list": _READ,
    "status": (*_READ, *_on(JOBS, "watch"), *_on(PODS, "watch"), *_LOGS, *_on(CONFIG_MAPS, "get")),
    "logs": (*_READ, *_on(JOBS, "watch"), *_on(PODS, "get", "watch"), *_LOGS),
    "wait": (*_FIND, *_on(JOBS, "watch")),
    "events": (*_READ, *_on(kinds.EVENTS, "list")),
    "why": (*_READ, *_LOGS, *_on(kinds.EVENTS, "list"), *_on(CONFIG_MAPS, "get"), *_on(CLAIMS, "list")),
    "cancel": (*_READ, *_on(JOBS, "patch", "watch")),
    "suspend": (*_READ, *_on(JOBS, "patch")),
    "resume": (*_READ, *_on(JOBS, "patch")),
    "retry": (*_READ, *_on(JOBS, "create", "patch", "delete"), *_on(CONFIG_MAPS, "get", "create", "patch", "delete"), *_on(PODS, "delete")),
    "delete": (*_READ, *_on(JOBS, "delete"), *_on(CONFIG_MAPS, "get", "list", "delete"), *_on(PODS, "delete")),
    "collect": (
        *_READ,
        *_on(CONFIG_MAPS, "get"),
        *_on(CLAIMS, "get"),
        *_on(PODS, "get", "create", "delete"),
        *_on(PODS, "create", "get", part="exec"),
        *_on(kinds.EVENTS, "list"),
    ),
    "doctor": (*_on(CLAIMS, "list"), *_on(kinds.QUOTAS, "list")),
}  # fmt: skip
"""What a command cannot do without, by its name."""

OF_KUEUE: Sequence[Permission] = (*_on(kinds.LOCAL_QUEUES, "get", "list"), *_on(kinds.WORKLOADS, "list"))
"""Needed only where Kueue is installed."""

HELPFUL: Sequence[Permission] = (
    *_on(kinds.NODES, "list"),
    Permission("list", PODS, all_namespaces=True),
    *_on(kinds.STORAGE_CLASSES, "get", "list"),
    *_on(kinds.VOLUMES, "get"),
    *_on(kinds.NAMESPACES, "get"),
    *_on(kinds.PRIORITY_CLASSES, "get"),
    *_on(kinds.RUNTIME_CLASSES, "get"),
    *_on(kinds.CLUSTER_QUEUES, "get"),
)
"""Cluster-wide; without them answers are shorter, and nothing fails."""


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
    def needed(self) -> list[Permission]:
        """What it is not permitted without."""
        always = (*_READ, *_on(JOBS, "create", "patch"), *_on(CONFIG_MAPS, "get", "create"))
        watching = _on(JOBS, "watch") if self.wait or self.follow else ()
        following = (*_on(PODS, "watch"), *_LOGS) if self.follow else ()
        forcing = (*_on(JOBS, "delete"), *_on(PODS, "delete")) if self.force else ()
        return [*always, *watching, *following, *forcing]


def missing(cluster: Cluster, needed: Sequence[Permission]) -> list[Permission] | None:
    """Those that we do not have, by SelfSubjectAccessReview, which everybody may ask; None where the cluster does not say."""

    def ask(one: Permission) -> bool | None:
        return cluster.can(one.verb, one.kind, subresource=one.subresource, all_namespaces=one.all_namespaces)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = list(pool.map(ask, needed))
    return None if None in answers else [one for one, answer in zip(needed, answers, strict=True) if not answer]


def check_permissions(cluster: Cluster, needed: Sequence[Permission]) -> Iterator[Finding]:
    """What is not permitted, in one finding; nothing where the cluster does not say."""
    if lacking := missing(cluster, needed):
        commands = [name for name, ones in COMMANDS.items() if {*ones} & {*lacking}] or ["queues"]
        doubt = "is its name right? If so, " if len(lacking) == len(needed) else ""
        role = f"{replace(cluster.flags, namespace=cluster.namespace).kubectl()} apply -f k8s/submitter.yaml"
        yield Finding(
            cause="not-permitted",
            subject=f"namespace {cluster.namespace}",
            sentence=f"not permitted: {listed(lacking)} (for {', '.join(commands)})",
            remedy=f"{doubt}ask whoever runs the cluster for the Role of k8s/: {role}, with you in its RoleBinding",
        )


def all_needed() -> list[Permission]:
    """Everything that some command needs, each once."""
    return list(dict.fromkeys(one for needed in COMMANDS.values() for one in needed))


def listed(permissions: Iterable[Permission]) -> str:
    """`create, patch jobs; get pods/log`."""
    verbs: dict[str, list[str]] = {}
    for one in permissions:
        verbs.setdefault(f"{one.resource}{' everywhere' if one.all_namespaces else ''}", []).append(one.verb)
    return "; ".join(f"{', '.join(names)} {resource}" for resource, names in verbs.items())
