"""What a rule finds, and the table of causes that it finds it in."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

Severity = Literal["error", "warning", "ok", "unchecked"]
"""error: somebody must act. warning: it may pass by itself, or be meant so. unchecked: it may not be read with these rights."""


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
        return replace(self, evidence=(*self.evidence, *evidence), since=self.since or since)


@dataclass(frozen=True, slots=True)
class Cause:
    """A row of the table of causes.

    Args:
        cause: as Finding's.
        says: a regular expression of what Kubernetes says, upper and lower case alike; empty for any text, and for a cause that is found otherwise.
        sentence, remedy: as Finding's, with {fields}: those that a rule gives, and the named groups of `says`.
        severity: as Finding's.
    """

    cause: str
    says: str
    sentence: str
    remedy: str
    severity: Severity = "error"

    def finding(self, **fields: object) -> Finding:
        """The finding, with its fields filled in."""
        words = defaultdict(str, fields)
        return Finding(
            cause=self.cause,
            sentence=self.sentence.format_map(words),
            remedy=self.remedy.format_map(words),
            severity=self.severity,
        )


def by_name(*causes: Cause) -> Mapping[str, Cause]:
    """A table of causes that rules look up."""
    return {cause.cause: cause for cause in causes}


def cut(text: str, chars: int) -> str:
    """No more than so many characters of a text."""
    return text if len(text) <= chars else f"{text[: chars - 1]}…"


def recognise(causes: Iterable[Cause], text: str, **fields: object) -> Finding | None:
    """The finding of the first cause that a text of Kubernetes says."""
    for cause in causes:
        match = re.search(cause.says, text, re.IGNORECASE)
        if match:
            return cause.finding(**fields | {name: word for name, word in match.groupdict().items() if word})
    return None
