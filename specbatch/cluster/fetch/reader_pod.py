"""A reader on the cluster: made, waited for, made again when it is lost, and taken away whatever happens."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from specbatch.cluster.client.kinds import EVENTS, PODS, Object
from specbatch.cluster.fetch.reader_manifest import MADE, READER
from specbatch.cluster.status.pod_state import has_ended
from specbatch.errors import ClusterError

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster

_LOOK_SECONDS = 1.0
_START_SECONDS = 600.0  # images are large
_SCHEDULE_SECONDS = 30.0
_MOUNT_SECONDS = 120.0  # a volume may still be on its way from another node
_GONE_SECONDS = 60.0
_REMAKES = 5
_HOPELESS = {  # reasons of a waiting container that no time mends
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
}
_AT_ONE_NODE = (
    "the volume can be used from one node at a time: wait until the run has ended, or stop it with specbatch suspend"
)


class ReaderPod:
    """A reader while it is needed; a `with` takes it away at its end.

    Args:
        cluster: where.
        make: the manifest, as of now: what owns it may be gone by the time it is made again.
        sleep: waits.
        clock: seconds.
    """

    def __init__(
        self,
        cluster: Cluster,
        make: Callable[[], Object],
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._make = make
        self._sleep = sleep
        self._clock = clock
        self._name = ""
        self._uid = ""
        self._made = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._name:
            with suppress(ClusterError):  # it ends by itself, and goes with the Job
                self._cluster.delete(PODS, self._name)

    def alive(self) -> bool:
        """Whether it runs."""
        pod = self._cluster.find(PODS, self._name)
        return pod is not None and pod["metadata"]["uid"] == self._uid and _runs(pod)

    def run(self, command: list[str]) -> Generator[bytes]:
        """Standard output of a command in the pod, which is made first where it does not run.

        Raises:
            ClusterError: as Cluster.exec; or the pod does not come to run.
        """
        if not self._uid or not self.alive():
            self._start()
        yield from self._cluster.exec(self._name, command, container=READER)

    def _start(self) -> None:
        body = self._make()
        self._name = body["metadata"]["name"]
        pod = self._cluster.find(PODS, self._name)
        if pod is not None and (has_ended(pod) or "deletionTimestamp" in pod["metadata"] or not _same(pod, body)):
            self._remove(pod)
            pod = None
        if pod is None:
            self._made += 1
            if self._made > _REMAKES:
                remedy = "see specbatch events, and try again"
                raise ClusterError("the reader pod is taken away again and again", where=self._name, remedy=remedy, status=400)  # fmt: skip
            pod = self._create(body)
        self._uid = pod["metadata"]["uid"]
        self._wait()

    def _create(self, body: Object) -> Object:
        try:
            return self._cluster.create(PODS, body)
        except ClusterError as error:
            if error.reason != "AlreadyExists":
                raise
            return self._cluster.get(PODS, self._name)  # ours, its answer lost; or another collect's of the same run

    def _remove(self, pod: Object) -> None:
        self._cluster.delete(PODS, self._name, uid=pod["metadata"]["uid"])
        until = self._clock() + _GONE_SECONDS
        while (left := self._cluster.find(PODS, self._name)) and left["metadata"]["uid"] == pod["metadata"]["uid"]:
            if self._clock() > until:
                remedy = f"kubectl delete pod {self._name} --force, if its node is gone"
                raise ClusterError("the reader pod of an earlier collect does not go away", where=self._name, remedy=remedy)  # fmt: skip
            self._sleep(_LOOK_SECONDS)

    def _wait(self) -> None:
        """Returns when it runs."""
        began = self._clock()
        while True:
            pod = self._cluster.get(PODS, self._name)
            if _runs(pod):
                return
            problem = self._problem(pod, self._clock() - began)
            if problem:
                raise problem
            self._sleep(_LOOK_SECONDS)

    def _problem(self, pod: Object, seconds: float) -> ClusterError | None:
        """Why it will not run; None while it may."""
        reason, message = _waiting(pod)
        if has_ended(pod):
            return self._error(f"ended before it was used: {_last_words(pod)}", "specbatch events says more")
        if reason in _HOPELESS:
            return self._error(
                f"does not start: {reason}: {message}", "specbatch why explains it for the run's own pods"
            )
        if reason == "Unschedulable" and seconds > _SCHEDULE_SECONDS:
            return self._error(
                f"finds no node: {message}", "it needs the volume's node and 50m CPU; try again when there is room"
            )
        if reason not in {"", "Unschedulable"} or seconds > _SCHEDULE_SECONDS:
            return self._volume_problem(seconds)
        return None

    def _volume_problem(self, seconds: float) -> ClusterError | None:
        said = self._warning()
        if "Multi-Attach" in said or "ReadWriteOncePod" in said:
            return self._error(f"cannot have the volume: {said}", _AT_ONE_NODE)
        if "FailedMount" in said and seconds > _MOUNT_SECONDS:
            return self._error(f"cannot have the volume: {said}", "specbatch why explains it for the run's own pods")
        if seconds > _START_SECONDS:
            return self._error(
                f"does not run after {seconds / 60:.0f} minutes: {said or 'nothing says why'}", "try again"
            )
        return None

    def _warning(self) -> str:
        """What Kubernetes warned of last, of this pod."""
        events = self._cluster.list(EVENTS, fields={"involvedObject.name": self._name, "involvedObject.uid": self._uid})
        warnings = [event for event in events if event.get("type") == "Warning"]
        last = max(
            warnings, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""), default={}
        )
        return " ".join(f"{last.get('reason')}: {last.get('message')}".split()) if last else ""

    def _error(self, said: str, remedy: str) -> ClusterError:
        where = f"pod {self._name}, namespace {self._cluster.namespace}"
        return ClusterError(f"the reader pod {said}", where=where, remedy=remedy, status=400)


def _runs(pod: Object) -> bool:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    running = any("running" in (one.get("state") or {}) for one in statuses)
    return running and "deletionTimestamp" not in pod["metadata"]


def _same(pod: Object, body: Object) -> bool:
    wanted = body["metadata"]["annotations"][MADE]
    return bool((pod["metadata"].get("annotations") or {}).get(MADE) == wanted)


def _waiting(pod: Object) -> tuple[str, str]:
    """What it waits for: Kubernetes' word, and its message."""
    status = pod.get("status") or {}
    for one in status.get("containerStatuses") or ():
        if waiting := (one.get("state") or {}).get("waiting"):
            return str(waiting.get("reason") or "Waiting"), " ".join(str(waiting.get("message") or "").split())
    for one in status.get("conditions") or ():
        if one.get("type") == "PodScheduled" and one.get("status") == "False":
            return str(one.get("reason") or "Unschedulable"), " ".join(str(one.get("message") or "").split())
    return "", ""


def _last_words(pod: Object) -> str:
    status = pod.get("status") or {}
    said = [str(status[name]) for name in ("reason", "message") if status.get(name)]
    for one in status.get("containerStatuses") or ():
        ended = (one.get("state") or {}).get("terminated") or {}
        said += [str(ended[name]) for name in ("reason", "message") if ended.get(name)]
    return ": ".join(said) or "nothing says why"
