"""What Kubernetes tells of a run: the events of its Job, its pods, their claims, and of its Workload where Kueue has it."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from specbatch.cluster.client.kinds import EVENTS, JOBS, Object
from specbatch.cluster.jobs.job_view import JobView
from specbatch.cluster.jobs.run import is_over
from specbatch.cluster.jobs.timestamps import ago, event_start, event_time, seconds_of
from specbatch.formatting import rough_duration

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster

_LINE_CHARS = 100
_ROUND_SECONDS = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """One event.

    Attributes:
        about: of what: Job, shard 3, claim, ...
        name: the object's.
        warning: whether it warns.
        reason, message: as Kubernetes says it.
        count: how often it happened.
        first, last: when, RFC 3339.
    """

    about: str
    name: str
    warning: bool
    reason: str
    message: str
    count: int
    first: str
    last: str

    def text(self, clock: float) -> str:
        """For people, at the Unix time `clock`; in lines of at most 100 characters."""
        kind = "Warning" if self.warning else "Normal"
        head = f"{ago(self.last, clock):>11}  {kind:<7}  {self.about:<9} "
        said = f"{self.reason}: {self.message}{self._repeated}"
        first, *more = textwrap.wrap(said, _LINE_CHARS - len(head), break_on_hyphens=False)
        return "\n".join([head + first, *(" " * len(head) + line for line in more)])

    def value(self) -> dict[str, Any]:
        """As plain data; keys may be added, none changes."""
        kind = "Warning" if self.warning else "Normal"
        told = {"about": self.about, "name": self.name, "type": kind, "reason": self.reason, "message": self.message}
        return {**told, "count": self.count, "first": self.first, "last": self.last}

    @property
    def _repeated(self) -> str:
        if self.count < 2:
            return ""
        first, last = seconds_of(self.first), seconds_of(self.last)
        over = (
            f" in {rough_duration(last - first)}"
            if first is not None and last is not None and last - first >= 1
            else ""
        )
        return f" ({self.count:,} times{over})"


def read_events(cluster: Cluster, job: Object) -> list[RunEvent]:
    """The events of a run, the oldest first. Kubernetes forgets them, after an hour as a rule."""
    return _Teller(job).new(cluster.list(EVENTS))


def watch_events(cluster: Cluster, job: Object, emit: Callable[[RunEvent], None]) -> None:
    """The events of a run, and those to come, until its Job has ended, or is gone."""
    teller = _Teller(job)
    while True:
        over = _over(cluster, job)
        for event in teller.new(cluster.list(EVENTS)):
            emit(event)
        if over:
            return
        for change, item in cluster.watch(EVENTS, seconds=_ROUND_SECONDS):
            for event in teller.new([item] if change != "DELETED" else []):
                emit(event)


class _Teller:
    """Picks the events of a Job and of what belongs to it, each state of one once."""

    def __init__(self, job: Object) -> None:
        self._view = JobView(job)
        self._uid = job["metadata"].get("uid")
        self._since = seconds_of(job["metadata"].get("creationTimestamp")) or 0.0
        self._pod = re.compile(rf"{re.escape(self._view.name)}-(\d+)-[a-z0-9]+")
        volumes = job["spec"]["template"]["spec"].get("volumes") or ()
        self._claims = {(one.get("persistentVolumeClaim") or {}).get("claimName") for one in volumes} - {None}
        self._told: set[tuple[str, str]] = set()

    def new(self, events: Iterable[Object]) -> list[RunEvent]:
        """Those that were not told yet, in the order of time."""
        found: list[tuple[int, int, RunEvent]] = []
        for event in events:
            about = self._about(event.get("involvedObject") or {})
            key = (str(event["metadata"].get("uid")), str(event["metadata"].get("resourceVersion")))
            if about and key not in self._told and (seconds_of(event_time(event)) or self._since) >= self._since:
                self._told.add(key)
                at, version = int(seconds_of(event_time(event)) or 0), key[1]
                found.append((at, int(version) if version.isdecimal() else 0, _told(event, about)))
        return [told for _, _, told in sorted(found, key=lambda one: one[:2])]  # most times have whole seconds

    def _about(self, thing: Object) -> str:
        """What an object is to the run; nothing where it is none of its."""
        kind, name = thing.get("kind"), str(thing.get("name") or "")
        if kind == "Job" and name == self._view.name:
            return "Job" if thing.get("uid") in {None, "", self._uid} else ""
        if kind == "Pod" and (found := self._pod.fullmatch(name)):
            index = int(found[1])
            return f"shard {self._view.shards[index]}" if index < len(self._view.shards) else "pod"
        if kind == "Pod" and name == f"{self._view.name}-reader":
            return "reader"
        if kind == "PersistentVolumeClaim" and name in self._claims:
            return "claim"
        return "Workload" if kind == "Workload" and name.startswith(f"job-{self._view.name}-") else ""


def _told(event: Object, about: str) -> RunEvent:
    series = event.get("series") or {}
    last = event_time(event)
    return RunEvent(
        about=about,
        name=str((event.get("involvedObject") or {}).get("name") or ""),
        warning=event.get("type") == "Warning",
        reason=str(event.get("reason") or ""),
        message=" ".join(str(event.get("message") or event.get("note") or "").split()),
        count=int(series.get("count") or event.get("count") or 1),
        first=event_start(event) or last,
        last=last,
    )


def _over(cluster: Cluster, job: Object) -> bool:
    now = cluster.find(JOBS, job["metadata"]["name"])
    return now is None or now["metadata"].get("uid") != job["metadata"].get("uid") or is_over(JobView(now))
