"""What rules look at: a Job and its pods, and the cluster around them. Each part is read when a rule first asks for it, and once."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from specbatch.cluster.client import kinds
from specbatch.cluster.client.kinds import Kind, Object
from specbatch.cluster.client.kueue import KueueKinds, kueue_kinds
from specbatch.cluster.diagnose.finding import Cause, Finding, Said
from specbatch.cluster.diagnose.nodes import Node, with_pods
from specbatch.cluster.jobs.job_view import JobView
from specbatch.cluster.jobs.stored_spec import resolved_spec
from specbatch.cluster.jobs.timestamps import event_line, event_start, event_time
from specbatch.errors import ClusterError

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster

_T = TypeVar("_T")
_LOG = "pods/log"
_LOGS_READ = 8


class Evidence:
    """A Job and what the cluster says around it.

    What may not be read is None, and named in `not_permitted` as RBAC names it.

    Args:
        cluster: where it is read.
        view: the Job and its pods; of one that does not exist yet, its manifest.
        objects: those that need not be read, by the plural of their kind.
        known: `spec`, `kueue` and `clock` (Unix time now), where they are known.

    Raises:
        ClusterError: by any part, where the API server does not answer, or fails.
    """

    def __init__(self, cluster: Cluster, view: JobView, objects: Mapping[str, Any] | None = None, **known: Any) -> None:
        self.cluster = cluster
        self.view = view
        self.clock = time.time()
        self.not_permitted: list[str] = []
        self._read: dict[str, Any] = dict(objects or {})
        vars(self).update(known)

    @cached_property
    def words(self) -> Mapping[str, str]:
        """Fields of every cause: the namespace, and the commands that lead to this cluster, to be pasted."""
        flags, namespace = self.cluster.flags, self.cluster.namespace
        verbs = ("collect", "events", "logs", "resume", "retry", "status")
        words = {verb: flags.command(verb, self.view.run) for verb in verbs}
        if self.view.fetches_models:
            words["retry"] = "the same specbatch fetch again"
        kubectl = {"kubectl": self.cluster.kubectl(), "kubectl_all": replace(flags, namespace=None).kubectl()}
        return {**words, **kubectl, "namespace": namespace}

    def found(self, cause: Cause, /, **fields: object) -> Finding:
        """The finding of a cause."""
        return cause.finding(**{**self.words, **fields})

    def recognise(self, causes: Iterable[Cause], said: Said, /, **fields: object) -> Finding | None:
        """The finding of the first of these causes that Kubernetes says."""
        for cause in causes:
            if match := re.search(cause.says, said.text, re.IGNORECASE):
                named = {name: word for name, word in match.groupdict().items() if word}
                return self.found(cause, **fields | named).seen([said.line], said.since)
        return None

    def every(self, kind: Kind) -> Sequence[Object] | None:
        """All objects of a kind, of the namespace where the kind has namespaces."""
        return self._ask(kind.plural, kind.plural, lambda cluster: cluster.list(kind))

    def by_name(self, kind: Kind) -> Mapping[str, Object]:
        """The same by name; empty where they may not be read."""
        every = self.every(kind) or ()
        return self.once(f"{kind.plural} by name", lambda: {str(one["metadata"]["name"]): one for one in every})

    def find(self, kind: Kind, name: str) -> Object | None:
        """One object; None where there is none, or it may not be read."""
        if self._read.get(kind.plural) is not None:
            return self.by_name(kind).get(name)
        return self._ask(f"{kind.plural}/{name}", kind.plural, lambda cluster: cluster.find(kind, name))

    def lacks(self, kind: Kind, name: str) -> bool:
        """Whether there is no such object, as far as that may be read."""
        return self.find(kind, name) is None and kind.plural not in self.not_permitted

    @cached_property
    def spec(self) -> Mapping[str, Any]:
        """The resolved spec; empty where the Job's ConfigMap is gone."""
        spec = resolved_spec(self.find(kinds.CONFIG_MAPS, self.view.name) or {}).get("spec")
        return spec if isinstance(spec, dict) else {}  # somebody may have edited it

    @cached_property
    def nodes(self) -> Sequence[Node] | None:
        """The nodes by name, without their pods."""
        found = self.every(kinds.NODES)
        return None if found is None else with_pods(found, None)

    @cached_property
    def nodes_with_pods(self) -> Sequence[Node]:
        """The nodes with the pods on them; without, where those of other namespaces may not be read."""
        if not self.nodes:
            return ()
        what = "pods of all namespaces"
        pods = self._ask(what, what, lambda cluster: cluster.list(kinds.PODS, all_namespaces=True))
        return with_pods(self.every(kinds.NODES) or (), pods)

    @cached_property
    def kueue(self) -> KueueKinds | None:
        """None where Kueue is not installed, or may not be read."""
        return self._ask("kueue", kinds.LOCAL_QUEUES.plural, kueue_kinds)

    @property
    def kueue_readable(self) -> bool:
        """Whether it is known which queues there are."""
        return self.kueue is not None or kinds.LOCAL_QUEUES.plural not in self.not_permitted

    def newest_line(self, pod: Object) -> Said | None:
        """Of a pod's log, and when; None where it cannot be read, and of all pods but the first few."""
        name = pod["metadata"]["name"]
        known = sum(key.startswith(_LOG) for key in self._read)
        if known >= _LOGS_READ and f"{_LOG}/{name}" not in self._read:
            return self.once(_LOG, lambda: self.not_permitted.append(f"{_LOG} of more than {_LOGS_READ} pods"))

        def read(cluster: Cluster) -> Said:
            stamp, _, line = "".join(cluster.log(name, tail=1, timestamps=True)).partition(" ")
            return Said(line, time=stamp)

        try:
            return self._ask(f"{_LOG}/{name}", _LOG, read)
        except ClusterError:  # the pod has ended meanwhile, or its node does not answer
            return None

    def said_of(self, thing: Object, *reasons: str) -> Sequence[Said]:
        """The events of an object, newest first; of these reasons, where any is given."""
        uid, name = thing["metadata"].get("uid"), thing["metadata"]["name"]
        events = self.events.get(name, ())
        return [one for one, of in events if of.get("uid", uid) == uid and (not reasons or one.reason in reasons)]

    @cached_property
    def events(self) -> Mapping[str, Sequence[tuple[Said, Object]]]:
        """Of the namespace, by the name of what they are about, newest first, each with the reference to that."""
        found: dict[str, list[tuple[Said, Object]]] = {}
        for event in sorted(self.every(kinds.EVENTS) or (), key=event_time, reverse=True):
            about = event.get("involvedObject") or {}
            said = Said(Said.of(event).text, event_line(event), event_start(event), event_time(event))
            found.setdefault(str(about.get("name", "")), []).append((said, about))
        return found

    def once(self, key: str, find: Callable[[], _T]) -> _T:
        """What `find` gives, which is called once for each key."""
        if key not in self._read:
            self._read[key] = find()
        found: _T = self._read[key]
        return found

    def _ask(self, key: str, what: str, read: Callable[[Cluster], _T | None]) -> _T | None:
        """What `read` gives, once; None, and a note of it, where that is not permitted."""

        def ask() -> _T | None:
            try:
                return read(self.cluster)
            except ClusterError as error:
                if error.status != 403:
                    raise
                self.not_permitted += {what}.difference(self.not_permitted)
                return None

        return self.once(key, ask)
