"""What a rule concludes, and the verdict made of everything that was concluded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Mood = Literal["problem", "waiting", "fine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One cause.

    Args:
        cause: a word for machines; it never changes.
        sentence: what is the matter, for people.
        remedy: what to do about it.
        evidence: what it was concluded from: messages of Kubernetes, each with who said it.
        since: from when, RFC 3339.
        shards: of which shards it is said; none where it is said of the whole Job.
        mood: whether somebody must act, or only wait, or not even that.
    """

    cause: str
    sentence: str
    remedy: str
    evidence: tuple[str, ...] = ()
    since: str | None = None
    shards: tuple[int, ...] = ()
    mood: Mood = "problem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The one cause to look at first.

    Args:
        finding: it.
        others: further causes, the most common first.
        run, job, namespace: what was looked at.
        completions: how many shards there are.
        not_looked_at: what was not permitted, in a few words each.
    """

    finding: Finding
    others: Sequence[Finding] = ()
    run: str = ""
    job: str = ""
    namespace: str = ""
    completions: int = 1
    not_looked_at: Sequence[str] = ()
