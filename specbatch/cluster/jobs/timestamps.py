"""Timestamps of Kubernetes objects and events."""

from __future__ import annotations

from datetime import datetime

from specbatch.cluster.client.kinds import Object
from specbatch.formatting import rough_duration


def seconds_of(time: str | None) -> float | None:
    """Unix time of an RFC 3339 text; None where it is none."""
    try:
        return datetime.fromisoformat(time or "").timestamp()
    except ValueError:
        return None


def age(time: str | None, clock: float) -> float | None:
    """Seconds since a time, never negative: clocks differ."""
    then = seconds_of(time)
    return None if then is None else max(0.0, clock - then)


def ago(time: str | None, clock: float) -> str:
    """`3 min ago`; empty where it is not known."""
    seconds = age(time, clock)
    return "" if seconds is None else f"{rough_duration(seconds)} ago"


def event_time(event: Object) -> str:
    """When an event occurred last. The scheduler's events have eventTime and series, the kubelet's lastTimestamp."""
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"), event.get("firstTimestamp"))  # fmt: skip
    found = next((time for time in times if time), None)
    return str(found or (event.get("metadata") or {}).get("creationTimestamp") or "")


def event_start(event: Object) -> str | None:
    """When an event occurred first."""
    return event.get("firstTimestamp") or event.get("eventTime") or event_time(event) or None


def event_line(event: Object) -> str:
    """An event as one line: object, reason, message."""
    about = event.get("involvedObject") or {}
    message = " ".join(str(event.get("message") or "").split())
    return f"{about.get('kind', '').lower()} {about.get('name', '')}: {event.get('reason', '')}: {message}"
