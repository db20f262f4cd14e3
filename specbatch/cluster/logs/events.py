"""The events of a run: of its Job, its pods, their claims, and of its Workload where Kueue manages it."""

from __future__ import annotations

import re
import textwrap
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from specbatch.cluster.client.kinds import EVENTS, Object
from specbatch.cluster.jobs.job_view import JobView
from specbatch.cluster.jobs.timestamps import ago, event_start, event_time, seconds_of
from specbatch.formatting import rough_duration

if TYPE_CHECKING:
    from specbatch.cluster.client.client import Cluster

_LINE_CHARS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """One event.

    Attributes:
        about: Job, shard 3, claim, ...
        name: of the object.
        type: Normal or Warning.
        reason, message: of the event.
        count: occurrences.
        first, last: times of the first and the last occurrence, RFC 3339.
    """

    about: str
    name: str
    type: str
    reason: str
    message: str
    count: int
    first: str
    last: str

    def text(self, clock: float) -> str:
        """Lines of at most 100 characters; `clock` is the Unix time now."""
        head = f"{ago(self.last, clock):>11}  {self.type:<7}  {self.about:<9} "
        said = f"{self.reason}: {self.message}{self._repeated}"
        first, *more = textwrap.wrap(said, _LINE_CHARS - len(head), break_on_hyphens=False)
        return "\n".join([head + first, *(" " * len(head) + line for line in more)])

    def value(self) -> dict[str, Any]:
        """As plain data; keys may be added, none changes."""
        return asdict(self)

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
    """The events of a run, the oldest first. The API server keeps events for an hour by default."""
    view = JobView(job)
    since = seconds_of(job["metadata"].get("creationTimestamp")) or 0.0
    found: list[tuple[int, int, RunEvent]] = []
    for event in cluster.list(EVENTS):
        about, at = _subject(view, event.get("involvedObject") or {}), seconds_of(event_time(event)) or since
        if about and at >= since:
            version = str(event["metadata"].get("resourceVersion"))  # orders events of the same second
            found.append((int(at), int(version) if version.isdecimal() else 0, _run_event(event, about)))
    return [event for _, _, event in sorted(found, key=lambda one: one[:2])]


def _subject(view: JobView, thing: Object) -> str:
    """What an object is to the run; empty where it does not belong to it."""
    kind, name = thing.get("kind"), str(thing.get("name") or "")
    if kind == "Job" and name == view.name:
        return "Job" if thing.get("uid") in {None, "", view.job["metadata"].get("uid")} else ""
    if kind == "Pod" and (found := re.fullmatch(rf"{re.escape(view.name)}-(\d+)-[a-z0-9]+", name)):
        index = int(found[1])
        return f"shard {view.shards[index]}" if index < len(view.shards) else "pod"
    if kind == "Pod" and name == f"{view.name}-reader":
        return "reader"
    if kind == "PersistentVolumeClaim":
        volumes = view.job["spec"]["template"]["spec"].get("volumes") or ()
        return "claim" if name in {(one.get("persistentVolumeClaim") or {}).get("claimName") for one in volumes} else ""
    return "Workload" if kind == "Workload" and name.startswith(f"job-{view.name}-") else ""


def _run_event(event: Object, about: str) -> RunEvent:
    series = event.get("series") or {}
    last = event_time(event)
    return RunEvent(
        about=about,
        name=str((event.get("involvedObject") or {}).get("name") or ""),
        type="Warning" if event.get("type") == "Warning" else "Normal",
        reason=str(event.get("reason") or ""),
        message=" ".join(str(event.get("message") or event.get("note") or "").split()),
        count=int(series.get("count") or event.get("count") or 1),
        first=event_start(event) or last,
        last=last,
    )
