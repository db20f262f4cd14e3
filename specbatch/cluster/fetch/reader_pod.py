"""A reader pod on the cluster: created, waited for, created again when it is lost, and always deleted at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from specbatch.cluster.client.kinds import PODS, Object
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.table import OF_A_POD
from specbatch.cluster.fetch.reader_manifest import MADE
from specbatch.cluster.jobs.job_view import JobView, reason_text
from specbatch.cluster.jobs.termination_wait import delete_and_wait
from specbatch.cluster.manifests.names import READER
from specbatch.cluster.status.pod_state import container_state, has_ended
from specbatch.errors import ClusterError

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster

_POLL_SECONDS = 1.0
_LOOK_SECONDS = 30.0
_START_SECONDS = 600.0  # images are large
_MOUNT_SECONDS = 120.0  # a volume may still be attached to another node
_CREATIONS = 5


class ReaderPod:
    """A reader pod; a `with` deletes it at its end.

    Args:
        cluster: where it runs.
        make: its manifest as of now: its owner may be gone by the time it is created again.
    """

    def __init__(self, cluster: Cluster, make: Callable[[], Object]) -> None:
        self._cluster = cluster
        self._make = make
        self._name = ""
        self._uid = ""
        self._created = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._name:
            with suppress(ClusterError):  # it has a deadline, and is deleted with the Job
                self._cluster.delete(PODS, self._name)

    def alive(self) -> bool:
        """Whether it runs."""
        pod = self._cluster.find(PODS, self._name)
        return pod is not None and pod["metadata"]["uid"] == self._uid and _runs(pod)

    def run(self, command: list[str]) -> Generator[bytes]:
        """Standard output of a command in the pod, which is created first where it does not run.

        Raises:
            ClusterError: as Cluster.exec; or the pod does not start.
        """
        if not self._uid or not self.alive():
            self._start()
        yield from self._cluster.exec(self._name, command, container=READER)

    def _start(self) -> None:
        body = self._make()
        self._name = body["metadata"]["name"]
        pod = self._cluster.find(PODS, self._name)
        if pod is not None and (has_ended(pod) or "deletionTimestamp" in pod["metadata"] or not _same(pod, body)):
            remedy = f"{self._cluster.kubectl('delete', 'pod', self._name, '--force')}, if its node is gone"
            delete_and_wait(self._cluster, PODS, pod, "the reader pod of an earlier collect", remedy)
            pod = None
        if pod is None:
            self._created += 1
            if self._created > _CREATIONS:
                raise self._error("was deleted again and again", "see specbatch events, and try again")
            pod = self._create(body)
        self._uid = pod["metadata"]["uid"]
        self._wait()

    def _create(self, body: Object) -> Object:
        try:
            return self._cluster.create(PODS, body)
        except ClusterError as error:
            if error.reason != "AlreadyExists":
                raise
            return self._cluster.get(
                PODS, self._name
            )  # our own, the answer lost; or that of another collect of the run

    def _wait(self) -> None:
        """Returns when it runs."""
        began = looked = time.monotonic()
        while not _runs(pod := self._cluster.get(PODS, self._name)):
            if has_ended(pod):
                raise self._error(f"ended before it was used: {_ended_because(pod)}", "specbatch events says more")
            if (now := time.monotonic()) - looked > _LOOK_SECONDS:
                self._look(pod, now - began)
                looked = now
            time.sleep(_POLL_SECONDS)

    def _look(self, pod: Object, seconds: float) -> None:
        """Raises what `why` says of a pod that does not run, unless it only takes time."""
        evidence = Evidence(self._cluster, JobView({"metadata": pod["metadata"], "spec": {}}))
        finding = next((found for rule in OF_A_POD for found in rule(evidence, pod)), None)
        if finding is not None:
            patience = _MOUNT_SECONDS if finding.cause.startswith("mount-") else 0.0
            if seconds > (patience if finding.severity == "error" else _START_SECONDS):
                said = f" ({finding.evidence[0]})" if finding.evidence else ""
                raise self._error(f"does not run: {finding.sentence}{said}", finding.remedy)
        elif seconds > _START_SECONDS:
            raise self._error(f"does not run after {seconds / 60:.0f} minutes", "try again")

    def _error(self, text: str, remedy: str) -> ClusterError:
        where = f"pod {self._name}, namespace {self._cluster.namespace}"
        return ClusterError(f"the reader pod {text}", where=where, remedy=remedy, status=400)


def _runs(pod: Object) -> bool:
    return "running" in container_state(pod, READER) and "deletionTimestamp" not in pod["metadata"]


def _same(pod: Object, body: Object) -> bool:
    """Whether a pod was made from this manifest."""
    return bool((pod["metadata"].get("annotations") or {}).get(MADE) == body["metadata"]["annotations"][MADE])


def _ended_because(pod: Object) -> str:
    ended = (pod.get("status"), container_state(pod, READER).get("terminated"))
    return ": ".join(filter(None, map(reason_text, ended))) or "unknown"
