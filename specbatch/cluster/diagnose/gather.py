"""Reads from the cluster what the rules look at: once, no more than the state of the Job asks for, and no more than is permitted."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from specbatch.cluster.client.kinds import CLAIMS, CONFIG_MAPS, EVENTS, NAMESPACES, STORAGE_CLASSES, VOLUMES, Object
from specbatch.cluster.client.kueue import kueue_kinds
from specbatch.cluster.diagnose.evidence import Evidence, LogLine, Queue, claim_names
from specbatch.cluster.jobs.lookup import job_with_pods
from specbatch.cluster.manifests.mounts import SPEC_KEY
from specbatch.cluster.preflight.nodes import Node, read_nodes
from specbatch.cluster.status.pod_state import container_state
from specbatch.errors import ClusterError

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster

_T = TypeVar("_T")
_JOB_UID = "kueue.x-k8s.io/job-uid"  # label of Kueue's Workloads
_LOGS_READ = 8


def gather(cluster: Cluster, job: Object) -> Evidence:
    """Everything that is known of a Job."""
    return _Gathering(cluster, job).evidence()


class _Gathering:
    def __init__(self, cluster: Cluster, job: Object) -> None:
        self._cluster = cluster
        self._unseen: list[str] = []
        self._view = job_with_pods(cluster, job)

    def evidence(self) -> Evidence:
        view = self._view
        homeless = [pod for pod in view.pods if _pending(pod) and not pod["spec"].get("nodeName")]
        queue = self._queue()
        claims = self._claims()
        mounted = [claims.get(name) for name in claim_names(view.job["spec"]["template"]["spec"])]
        unbound = any(claim and (claim.get("status") or {}).get("phase") == "Pending" for claim in mounted)
        newest_lines, silent = self._newest_lines()
        return Evidence(
            view=view,
            clock=time.time(),
            events=self._events(claims, queue),
            spec=self._spec(),
            claims=claims,
            classes=self._read("storage classes", lambda: self._cluster.list(STORAGE_CLASSES)) if unbound else None,
            volumes=self._volumes(mounted) if homeless else {},
            nodes=self._nodes() if homeless else None,
            namespace=self._namespace() if view.deleting else None,
            queue=queue,
            newest_lines=newest_lines,
            silent_logs=silent,
            not_looked_at=list(dict.fromkeys(self._unseen)),
        )

    def _read(self, what: str, read: Callable[[], _T]) -> _T | None:
        """What `read` gives; None, and a note of it, where that is not permitted."""
        try:
            return read()
        except ClusterError as error:
            if error.status != 403:
                raise
            self._unseen.append(what)
            return None

    def _spec(self) -> Mapping[str, Any]:
        found = self._read("the ConfigMap", lambda: self._cluster.find(CONFIG_MAPS, self._view.name))
        try:
            value = json.loads(((found or {}).get("data") or {}).get(SPEC_KEY, ""))
        except ValueError:
            return {}
        spec = value.get("spec") if isinstance(value, dict) else None
        return spec if isinstance(spec, dict) else {}

    def _events(self, claims: Mapping[str, Object | None], queue: Queue | None) -> list[Object]:
        """Of pods that are gone, too: their names begin with the Job's."""
        name = self._view.name
        workload = ((queue and queue.workload) or {}).get("metadata", {}).get("name")

        def ours(event: Object) -> bool:
            about = event.get("involvedObject") or {}
            match about.get("kind"):
                case "Job":
                    return bool(about.get("name") == name)
                case "Pod":
                    return str(about.get("name", "")).startswith(f"{name}-")
                case "PersistentVolumeClaim":
                    return about.get("name") in claims
                case "Workload":
                    return workload is not None and about.get("name") == workload
                case _:
                    return False

        return [event for event in self._read("events", lambda: self._cluster.list(EVENTS)) or () if ours(event)]

    def _claims(self) -> Mapping[str, Object | None]:
        """All of the namespace, so that a name that is nearly right can be told; those of the Job that are missing as None."""
        wanted = claim_names(self._view.job["spec"]["template"]["spec"])
        if not wanted:
            return {}
        found = self._read("claims", lambda: self._cluster.list(CLAIMS))
        if found is None:
            return {}
        return dict.fromkeys(wanted) | {claim["metadata"]["name"]: claim for claim in found}

    def _volumes(self, claims: Sequence[Object | None]) -> Mapping[str, Object]:
        bound = {
            claim["metadata"]["name"]: claim["spec"]["volumeName"]
            for claim in claims
            if claim and (claim.get("spec") or {}).get("volumeName")
        }
        found = {
            claim: self._read("volumes", lambda volume=volume: self._cluster.find(VOLUMES, volume))  # type: ignore[misc]  # mypy cannot infer lambdas with defaults
            for claim, volume in bound.items()
        }
        return {claim: volume for claim, volume in found.items() if volume is not None}

    def _nodes(self) -> list[Node] | None:
        nodes, unseen = read_nodes(self._cluster)
        self._unseen += unseen
        return nodes

    def _namespace(self) -> Object | None:
        """Only a help: nobody misses it."""
        try:
            return self._cluster.find(NAMESPACES, self._view.namespace)
        except ClusterError:
            return None

    def _queue(self) -> Queue | None:
        view, cluster = self._view, self._cluster
        if view.queue is None or not view.suspended:
            return None
        unseen = len(self._unseen)
        kinds = self._read("Kueue's queues", lambda: kueue_kinds(cluster))
        if kinds is None:
            readable = len(self._unseen) == unseen
            return Queue(installed=not readable, readable=readable)
        name = view.queue
        local = self._read("Kueue's queues", lambda: cluster.find(kinds.local_queues, name))
        of = ((local or {}).get("spec") or {}).get("clusterQueue")
        workloads = self._read("Kueue's workloads", lambda: cluster.list(kinds.workloads)) or []
        uid = view.job["metadata"].get("uid")
        return Queue(
            readable=len(self._unseen) == unseen,
            local_queue=local,
            cluster_queue=self._read("the ClusterQueue", lambda: cluster.find(kinds.cluster_queues, of))
            if of
            else None,
            workload=next(
                (one for one in workloads if (one["metadata"].get("labels") or {}).get(_JOB_UID) == uid), None
            ),
            pending=[one for one in workloads if _waits_in(one, name)],
        )

    def _newest_lines(self) -> tuple[dict[str, LogLine], frozenset[str]]:
        """Of some pods that run: one that hangs is told by its silence."""
        names = [pod["metadata"]["name"] for pod in self._view.pods if "running" in container_state(pod)]
        found: dict[str, LogLine] = {}
        silent: set[str] = set()
        for name in names[:_LOGS_READ]:
            try:
                lines = list(self._cluster.log(name, tail=1, timestamps=True))
            except ClusterError as error:
                if error.status == 403:
                    self._unseen.append("logs")
                continue  # the pod has ended meanwhile, or its node does not answer
            stamp, _, line = (lines[-1] if lines else "").partition(" ")
            if stamp:
                found[name] = LogLine(stamp, line)
            else:
                silent.add(name)
        if len(names) > _LOGS_READ:
            self._unseen.append(f"the logs of {len(names) - _LOGS_READ:,} more pods")
        return found, frozenset(silent)


def _pending(pod: Object) -> bool:
    return bool((pod.get("status") or {}).get("phase") in {"Pending", None})


def _waits_in(workload: Object, queue: str) -> bool:
    """Whether a Workload waits in a queue for quota."""
    conditions = (workload.get("status") or {}).get("conditions") or ()
    settled = {one.get("type") for one in conditions if one.get("status") == "True"} & {"QuotaReserved", "Finished"}
    return (workload.get("spec") or {}).get("queueName") == queue and not settled
