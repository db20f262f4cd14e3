"""What Kubernetes says, what a rule finds in it, and the tables of causes that lead from one to the other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from specbatch.formatting import first_lines

Severity = Literal["error", "warning", "ok", "unchecked"]
"""error: somebody must act. warning: it may pass by itself, or be meant so. unchecked: it may not be read with these rights."""


@dataclass(frozen=True, slots=True)
class Said:
    """Words of Kubernetes: an event, a condition, why a container waits or has ended.

    Args:
        text: `reason: message`, which causes are recognised by.
        line: the same with the object that it is about, as evidence.
        since: when it was said first, RFC 3339.
        time: when it was said last.
    """

    text: str = ""
    line: str = ""
    since: str | None = None
    time: str = ""

    @classmethod
    def of(cls, thing: Mapping[str, Any], about: str = "") -> Said:
        """What has a reason and a message: a condition, the state of a container, the status of a pod."""
        text = f"{thing.get('reason') or ''}: {' '.join(str(thing.get('message') or '').split())}"
        return cls(text, f"{about}: {text}" if about else text, thing.get("lastTransitionTime"))

    @property
    def reason(self) -> str:
        """The word of Kubernetes before the message."""
        return self.text.partition(":")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that `why`, `doctor` or the checks of `submit` found.

    Args:
        cause: a word for machines; it never changes.
        sentence: what is the matter, for people.
        remedy: what to do about it.
        severity: how much it matters.
        subject: what was looked at; doctor and submit show it before the sentence.
        evidence: the messages of Kubernetes that it rests on, each with the object that has it.
        since: from when, RFC 3339.
        shards: the shards that it is about; none where it is about the whole Job.
    """

    cause: str
    sentence: str
    remedy: str = ""
    severity: Severity = "error"
    subject: str = ""
    evidence: tuple[str, ...] = ()
    since: str | None = None
    shards: tuple[int, ...] = ()

    def __str__(self) -> str:
        text = f"{self.subject}: {self.sentence}" if self.subject else self.sentence
        return f"{text}\n  remedy: {self.remedy}" if self.remedy else text

    def seen(self, evidence: Iterable[str] = (), since: str | None = None) -> Finding:
        """With more evidence, and with the time since when, unless it has one already."""
        return replace(self, evidence=(*self.evidence, *filter(None, evidence)), since=self.since or since)


@dataclass(frozen=True, slots=True)
class Cause:
    """A row of the table of causes.

    Args:
        cause: as Finding's.
        says: a regular expression of what Kubernetes says, upper and lower case alike; empty for any text, and for a cause that is found otherwise.
        sentence, remedy: as Finding's, with {fields}: those of `Evidence.words`, those that a rule gives, and the named groups of `says`.
        severity: as Finding's.
    """

    cause: str
    says: str
    sentence: str
    remedy: str
    severity: Severity = "error"

    def finding(self, /, **fields: object) -> Finding:
        """The finding, with its fields filled in; one that nobody gives is empty."""
        words = defaultdict(str, fields)
        sentence, remedy = self.sentence.format_map(words), self.remedy.format_map(words)
        return Finding(cause=self.cause, sentence=sentence, remedy=remedy, severity=self.severity)


def by_name(*causes: Cause) -> Mapping[str, Cause]:
    """A table of causes that rules look up."""
    return {cause.cause: cause for cause in causes}


def listed(names: Iterable[str], shown: int = 5) -> str:
    """`a, b, and 3 more`."""
    return ", ".join(first_lines(list(names), shown))
