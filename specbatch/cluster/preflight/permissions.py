"""What each command does in a namespace, as RBAC sees it. The Role of k8s/ and of the chart allows all of it; tests compare them.

Nothing here is cluster-wide: what is read of nodes and the like, where it may be, stands in HELPFUL.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from specbatch.cluster.client import kinds
from specbatch.cluster.client.kinds import Kind
from specbatch.cluster.diagnose.finding import Finding

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster

_AT_ONCE = 8
_KINDS = {one.plural: one for one in vars(kinds).values() if isinstance(one, Kind)}


@dataclass(frozen=True, slots=True)
class Permission:
    """A verb on a kind, or on a part of its objects.

    Args:
        verb: get, list, watch, create, patch or delete.
        resource: as RBAC rules write it: pods, pods/log.
        all_namespaces: in every namespace.
    """

    verb: str
    resource: str
    all_namespaces: bool = False

    @property
    def kind(self) -> Kind:
        """Of what."""
        return _KINDS[self.resource.partition("/")[0]]


def _rights(*rules: str) -> tuple[Permission, ...]:
    """Of `jobs: get list` a permission for each verb."""
    parts = [rule.partition(":") for rule in rules]
    return tuple(Permission(verb, resource) for resource, _, verbs in parts for verb in verbs.split())


_READ = _rights("jobs: get list", "pods: list")
_LOGS = _rights("pods/log: get")
_OF_JOBS, _OF_CONFIG = "jobs: create patch delete", "configmaps: get create patch delete"

COMMANDS: Mapping[str, Sequence[Permission]] = {
    "submit": (*_READ, *_LOGS, *_rights(_OF_JOBS, "jobs: watch", _OF_CONFIG, "pods: get watch create delete", "persistentvolumeclaims: list")),
    "list": _READ,
    "status": (*_READ, *_LOGS, *_rights("jobs: watch", "pods: watch", "configmaps: get")),
    "logs": (*_READ, *_LOGS, *_rights("jobs: watch", "pods: get watch")),
    "wait": _rights("jobs: get list watch"),
    "events": (*_READ, *_rights("events: list")),
    "why": (*_READ, *_LOGS, *_rights("events: list", "configmaps: get", "persistentvolumeclaims: list")),
    "cancel": (*_READ, *_rights("jobs: patch watch")),
    "suspend": (*_READ, *_rights("jobs: patch")),
    "resume": (*_READ, *_rights("jobs: patch")),
    "retry": (*_READ, *_rights(_OF_JOBS, _OF_CONFIG, "pods: delete")),
    "delete": (*_READ, *_rights("jobs: delete", "configmaps: get list delete", "pods: delete")),
    "collect": (*_READ, *_rights("configmaps: get", "persistentvolumeclaims: get", "pods: get create delete", "pods/exec: create get", "events: list")),
    "doctor": _rights("persistentvolumeclaims: list", "resourcequotas: list"),
}  # fmt: skip
"""What a command cannot do without, by its name."""

OF_KUEUE: Sequence[Permission] = _rights("localqueues: get list", "workloads: list")
"""Needed only where Kueue is installed."""

HELPFUL: Sequence[Permission] = (
    Permission("list", "pods", all_namespaces=True),
    *_rights(
        "nodes: list", "storageclasses: get list", "persistentvolumes: get", "namespaces: get", "clusterqueues: get"
    ),
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
        more = ["jobs: watch"] * (self.wait or self.follow) + ["pods: watch", "pods/log: get"] * self.follow
        more += ["jobs: delete", "pods: delete"] * self.force
        return [*_READ, *_rights("jobs: create patch", "configmaps: get create", *more)]


def missing(cluster: Cluster, needed: Sequence[Permission]) -> list[Permission] | None:
    """Those that we do not have, by SelfSubjectAccessReview, which everybody may ask; None where the cluster does not say."""

    def ask(one: Permission) -> bool | None:
        part = one.resource.partition("/")[2]
        return cluster.can(one.verb, one.kind, subresource=part, all_namespaces=one.all_namespaces)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = list(pool.map(ask, needed))
    return None if None in answers else [one for one, answer in zip(needed, answers, strict=True) if not answer]


def check_permissions(cluster: Cluster, needed: Sequence[Permission]) -> Iterator[Finding]:
    """What is not permitted, in one finding; nothing where the cluster does not say."""
    if lacking := missing(cluster, needed):
        commands = [name for name, ones in COMMANDS.items() if {*ones} & {*lacking}] or ["queues"]
        doubt = "is its name right? If so, " if len(lacking) == len(needed) else ""
        role = cluster.kubectl("apply", "-f", "k8s/submitter.yaml")
        yield Finding(
            cause="not-permitted",
            subject=f"namespace {cluster.namespace}",
            sentence=f"not permitted: {listed_rights(lacking)} (for {', '.join(commands)})",
            remedy=f"{doubt}ask whoever runs the cluster for the Role of k8s/: {role}, with you in its RoleBinding",
        )


def all_needed() -> list[Permission]:
    """Everything that some command needs, each once."""
    return list(dict.fromkeys(one for needed in COMMANDS.values() for one in needed))


def listed_rights(permissions: Iterable[Permission]) -> str:
    """`create, patch jobs; get pods/log`."""
    verbs: dict[str, list[str]] = {}
    for one in permissions:
        verbs.setdefault(f"{one.resource}{' everywhere' if one.all_namespaces else ''}", []).append(one.verb)
    return "; ".join(f"{', '.join(names)} {resource}" for resource, names in verbs.items())
