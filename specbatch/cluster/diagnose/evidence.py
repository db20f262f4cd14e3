"""Everything that the rules look at, gathered once. Rules read it, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.jobs.job_view import JobView
from specbatch.cluster.jobs.timestamps import event_time
from specbatch.cluster.preflight.nodes import Node


@dataclass(frozen=True, kw_only=True)
class Queue:
    """What Kueue says.

    Args:
        installed: whether the cluster knows Kueue's kinds.
        readable: whether its objects may be read.
        local_queue, cluster_queue, workload: those of the Job; None where there is none, or it cannot be read.
        pending: the Workloads of the namespace that wait in the same LocalQueue.
    """

    installed: bool = True
    readable: bool = True
    local_queue: Object | None = None
    cluster_queue: Object | None = None
    workload: Object | None = None
    pending: Sequence[Object] = ()


@dataclass(frozen=True)
class LogLine:
    """The newest line of a pod's log; `time` is RFC 3339."""

    time: str
    line: str


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What was found of a Job, as of one moment.

    Args:
        view: the Job and its pods.
        clock: Unix time now, as the cluster has it.
        events: of the Job, its pods (also those that are gone), its claims and its Workload.
        spec: the resolved spec; empty where its ConfigMap is gone.
        claims: by name; None for one that is not there.
        classes: the storage classes; None where they were not, or could not be, read.
        volumes: the volumes of bound claims, by the claim's name.
        nodes: None where they were not, or could not be, read.
        namespace: the namespace's own object; None where it cannot be read.
        queue: None for a Job without a queue.
        newest_lines: of running pods' logs, by the pod's name.
        silent_logs: the running pods whose log is empty.
        not_looked_at: what was not permitted.
    """

    view: JobView
    clock: float
    events: Sequence[Object] = ()
    spec: Mapping[str, Any] = field(default_factory=dict)
    claims: Mapping[str, Object | None] = field(default_factory=dict)
    classes: Sequence[Object] | None = None
    volumes: Mapping[str, Object] = field(default_factory=dict)
    nodes: Sequence[Node] | None = None
    namespace: Object | None = None
    queue: Queue | None = None
    newest_lines: Mapping[str, LogLine] = field(default_factory=dict)
    silent_logs: frozenset[str] = frozenset()
    not_looked_at: Sequence[str] = ()

    @property
    def template(self) -> Object:
        """The spec of the Job's pods."""
        template: Object = self.view.job["spec"]["template"]["spec"]
        return template

    @property
    def gpus(self) -> str:
        """The name of the GPU resource that is asked for; nvidia.com/gpu where the spec cannot be read."""
        return str((self.spec.get("job") or {}).get("gpuResourceName") or "nvidia.com/gpu")

    def events_of(self, thing: Object, *reasons: str) -> list[Object]:
        """The events of an object, newest first; of these reasons, where any is given."""
        uid, name = thing["metadata"].get("uid"), thing["metadata"]["name"]
        found = [
            event
            for event in self.events
            if (not reasons or event.get("reason") in reasons)
            and (about := event.get("involvedObject") or {}).get("name") == name
            and about.get("uid", uid) == uid
        ]
        return sorted(found, key=event_time, reverse=True)

    def newest(self, thing: Object, *reasons: str) -> Object | None:
        """The newest event of an object, of these reasons."""
        return next(iter(self.events_of(thing, *reasons)), None)


def container_statuses(pod: Object) -> Iterator[Object]:
    """Those of all its containers, init containers first."""
    for name in ("initContainerStatuses", "containerStatuses"):
        yield from pod.get("status", {}).get(name) or ()


def claim_names(spec: Object) -> list[str]:
    """The claims that a pod's spec mounts."""
    claims = (volume.get("persistentVolumeClaim") for volume in spec.get("volumes") or ())
    return list(dict.fromkeys(claim["claimName"] for claim in claims if claim))
