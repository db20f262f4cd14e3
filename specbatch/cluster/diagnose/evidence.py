"""What rules look at: a Job and its pods, and the cluster around them. Each part is read when a rule first asks for it, and once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from specbatch.cluster.client import kinds
from specbatch.cluster.client.flags import Flags
from specbatch.cluster.client.kinds import Kind, Object
from specbatch.cluster.client.kueue import KueueKinds, kueue_kinds
from specbatch.cluster.diagnose.nodes import Node, with_pods
from specbatch.cluster.jobs.job_view import JobView
from specbatch.cluster.jobs.stored_spec import resolved_spec
from specbatch.cluster.jobs.timestamps import event_time
from specbatch.errors import ClusterError

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster

_T = TypeVar("_T")
_QUEUES = "Kueue's queues"
_LOGS_READ = 8


@dataclass(frozen=True)
class LogLine:
    """The newest line of a pod's log; `time` is RFC 3339, and empty where the log is."""

    time: str = ""
    line: str = ""


class Evidence:
    """A Job and what the cluster says around it.

    What may not be read is None, and named in `not_permitted`.

    Args:
        cluster: where it is read; None where every part is known.
        view: the Job and its pods; of one that does not exist yet, its manifest.
        known: parts that need not be read, by name.

    Raises:
        ClusterError: by any part, where the API server does not answer, or fails.
    """

    def __init__(self, cluster: Cluster | None, view: JobView, **known: Any) -> None:
        self.view = view
        self.not_permitted: list[str] = []
        self.logs_left_out = 0
        self._cluster = cluster
        self._logs: dict[str, LogLine | None] = dict(known.pop("logs", {}))
        vars(self).update(known)

    @property
    def namespace_name(self) -> str:
        """Where the Job is, or would be."""
        return self._cluster.namespace if self._cluster else self.view.namespace

    def command(self, verb: str) -> str:
        """A command of specbatch about the run, to be pasted: `specbatch retry nightly -n ml`."""
        return self.flags.command(verb, self.view.run)

    @property
    def retry(self) -> str:
        """The command that tries again what has failed."""
        return "the same specbatch fetch again" if self.view.fetches_models else self.command("retry")

    @property
    def flags(self) -> Flags:
        """The options that lead to the cluster."""
        return self._cluster.flags if self._cluster else Flags(namespace=self.view.namespace)

    @property
    def not_looked_at(self) -> list[str]:
        """What was not permitted, or too much."""
        more = [f"the logs of {self.logs_left_out:,} more pods"] if self.logs_left_out else []
        return [*dict.fromkeys(self.not_permitted), *more]

    @cached_property
    def clock(self) -> float:
        """Unix time now."""
        return time.time()

    @cached_property
    def events(self) -> Sequence[Object]:
        """All of the namespace."""
        return self._list("events", kinds.EVENTS) or ()

    @cached_property
    def spec(self) -> Mapping[str, Any]:
        """The resolved spec; empty where the Job's ConfigMap is gone."""
        found = self._read("the ConfigMap", lambda cluster: cluster.find(kinds.CONFIG_MAPS, self.view.name))
        spec = resolved_spec(found or {}).get("spec")
        return spec if isinstance(spec, dict) else {}  # somebody may have edited it

    @cached_property
    def claims(self) -> Mapping[str, Object] | None:
        """The claims of the namespace, by name."""
        found = self._list("claims", kinds.CLAIMS)
        return None if found is None else {str(one["metadata"]["name"]): one for one in found}

    @cached_property
    def classes(self) -> Sequence[Object] | None:
        """The storage classes."""
        return self._list("storage classes", kinds.STORAGE_CLASSES)

    @cached_property
    def quotas(self) -> Sequence[Object]:
        """The ResourceQuotas of the namespace."""
        return self._list("quotas", kinds.QUOTAS) or ()

    @cached_property
    def nodes(self) -> Sequence[Node] | None:
        """The nodes by name, without their pods."""
        found = self._list("nodes", kinds.NODES)
        return None if found is None else with_pods(found, None)

    @cached_property
    def nodes_with_pods(self) -> Sequence[Node] | None:
        """The nodes with the pods on them; without, where those of other namespaces may not be read."""
        if not self.nodes:
            return self.nodes
        pods = self._list("the pods of other namespaces", kinds.PODS, all_namespaces=True)
        return with_pods([node.node for node in self.nodes], pods)

    @cached_property
    def namespace(self) -> Object | None:
        """None where there is none, or it may not be read."""
        return self._read("the namespace", lambda cluster: cluster.find(kinds.NAMESPACES, self.namespace_name))

    @cached_property
    def kueue(self) -> KueueKinds | None:
        """None where Kueue is not installed, or may not be read."""
        return self._read(_QUEUES, kueue_kinds)

    @property
    def kueue_readable(self) -> bool:
        """Whether it is known which queues there are."""
        return self.kueue is not None or _QUEUES not in self.not_permitted

    @cached_property
    def local_queues(self) -> Mapping[str, Object]:
        """Kueue's LocalQueues of the namespace, by name."""
        found = self._list(_QUEUES, self.kueue.local_queues) if self.kueue else None
        return {str(one["metadata"]["name"]): one for one in found or ()}

    @cached_property
    def cluster_queue(self) -> Object | None:
        """The ClusterQueue behind the Job's LocalQueue."""
        local, kueue = self.local_queues.get(self.view.queue or ""), self.kueue
        name = ((local or {}).get("spec") or {}).get("clusterQueue")
        if not name or kueue is None:
            return None
        return self._read("the ClusterQueue", lambda cluster: cluster.find(kueue.cluster_queues, name))

    @cached_property
    def workloads(self) -> Sequence[Object]:
        """Kueue's Workloads of the namespace, one for each of its Jobs."""
        return (self._list("Kueue's workloads", self.kueue.workloads) if self.kueue else None) or ()

    def volume_of(self, claim: Object) -> Object | None:
        """The volume that a claim is bound to."""
        name = (claim.get("spec") or {}).get("volumeName")
        return self._read("volumes", lambda cluster: cluster.find(kinds.VOLUMES, name)) if name else None

    @property
    def cluster(self) -> Cluster:
        """For what only one rule reads; it raises ClusterError with status 403 where that is not permitted."""
        assert self._cluster is not None
        return self._cluster

    def newest_line(self, pod: Object) -> LogLine | None:
        """Of a pod's log; None where it cannot be read, and of all pods but the first few."""
        name = pod["metadata"]["name"]
        if name not in self._logs and self._cluster is not None:
            if len(self._logs) >= _LOGS_READ:
                self.logs_left_out += 1
                return None
            self._logs[name] = self._read_log(self._cluster, name)
        return self._logs.get(name)

    def events_of(self, thing: Object, *reasons: str) -> list[Object]:
        """The events of an object, newest first; of these reasons, where any is given."""
        uid, name = thing["metadata"].get("uid"), thing["metadata"]["name"]
        return [
            event
            for event in self._events_by_name.get(name, ())
            if (not reasons or event.get("reason") in reasons)
            and (event.get("involvedObject") or {}).get("uid", uid) == uid
        ]

    def newest(self, thing: Object, *reasons: str) -> Object | None:
        """The newest event of an object, of these reasons."""
        return next(iter(self.events_of(thing, *reasons)), None)

    @cached_property
    def _events_by_name(self) -> Mapping[str, Sequence[Object]]:
        """Newest first, by the name of the object that they are about."""
        found: dict[str, list[Object]] = {}
        for event in sorted(self.events, key=event_time, reverse=True):
            found.setdefault(str((event.get("involvedObject") or {}).get("name")), []).append(event)
        return found

    def _list(self, what: str, kind: Kind, *, all_namespaces: bool = False) -> list[Object] | None:
        return self._read(what, lambda cluster: cluster.list(kind, all_namespaces=all_namespaces))

    def _read(self, what: str, read: Callable[[Cluster], _T]) -> _T | None:
        """What `read` gives; None, and a note of it, where that is not permitted."""
        if self._cluster is None:
            return None
        try:
            return read(self._cluster)
        except ClusterError as error:
            if error.status != 403:
                raise
            self.not_permitted.append(what)
            return None

    def _read_log(self, cluster: Cluster, pod: str) -> LogLine | None:
        try:
            lines = list(cluster.log(pod, tail=1, timestamps=True))
        except ClusterError as error:
            if error.status == 403:
                self.not_permitted.append("logs")
            return None  # or the pod has ended meanwhile, or its node does not answer
        stamp, _, line = (lines[-1] if lines else "").partition(" ")
        return LogLine(stamp, line)
