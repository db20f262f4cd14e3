"""The scheduler's sentence about a pod that fits nowhere, taken apart.

    0/6 nodes are available: 1 Insufficient nvidia.com/gpu, 2 node(s) had untolerated taint {dedicated: batch}, 3 node(s) didn't match
    Pod's node affinity/selector. preemption: 0/6 nodes are available: 1 No preemption victims found for incoming pod, 5 Preemption is
    not helpful for scheduling.

From Kubernetes 1.34 on a taint is not named any more: `had untolerated taint(s)`.

Source: https://github.com/kubernetes/kubernetes/blob/master/pkg/scheduler/framework/types.go (FitError)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_HEAD = re.compile(r"^\s*(\d+)/(\d+) nodes are available:?\s*")
_TAIL = re.compile(r"[.,]?\s*(?:no new claims to deallocate,?\s*)?preemption:\s*", re.IGNORECASE)
_COUNTED = re.compile(r"^(\d+) (.*)$", re.DOTALL)
_TAINT = re.compile(r"taint \{([^:}]*):\s*([^}]*)\}")
_RESOURCE = re.compile(r"^Insufficient (\S+)$")


@dataclass(frozen=True, slots=True)
class Part:
    """One reason, and how many nodes gave it; of a reason that is no node's the count is 0."""

    nodes: int
    text: str

    @property
    def resource(self) -> str | None:
        """What there is too little of."""
        match = _RESOURCE.match(self.text)
        return match[1] if match else ("pods" if self.text == "Too many pods" else None)

    @property
    def taint(self) -> tuple[str, str] | None:
        """Key and value of the taint that is named."""
        match = _TAINT.search(self.text)
        return (match[1].strip(), match[2].strip()) if match else None

    @property
    def is_taint(self) -> bool:
        """Whether it is about a taint."""
        return "taint" in self.text


@dataclass(frozen=True, slots=True)
class SchedulerMessage:
    """The whole sentence.

    Args:
        text: as it came.
        nodes: how many nodes there are.
        parts: the reasons.
        helpless: nodes of which even an empty one would not do ("Preemption is not helpful").
        victimless: nodes that would do if they were emptied, but hold nothing that may be evicted for this pod.
    """

    text: str
    nodes: int = 0
    parts: Sequence[Part] = ()
    helpless: int = 0
    victimless: int = 0

    def count(self, *words: str) -> int:
        """Nodes that gave a reason with one of these words."""
        return sum(part.nodes for part in self.parts if any(word in part.text for word in words))

    def says(self, *words: str) -> bool:
        """Whether one of these is said at all."""
        return any(word in part.text for part in self.parts for word in words)

    def lacking(self, resource: str) -> int:
        """Nodes with too little of a resource."""
        return sum(part.nodes for part in self.parts if part.resource == resource)


def parse_message(text: str) -> SchedulerMessage:
    """The sentence's parts; one that has no such form is one part."""
    head = _HEAD.match(text)
    if head is None:
        return SchedulerMessage(text, parts=[Part(0, text.strip().rstrip("."))] if text.strip() else [])
    reasons, *rest = _TAIL.split(text[head.end() :], maxsplit=1)
    preemption = parse_message(rest[0]) if rest else SchedulerMessage("")
    return SchedulerMessage(
        text,
        nodes=int(head[2]),
        parts=list(_parts(reasons)),
        helpless=preemption.count("Preemption is not helpful"),
        victimless=preemption.count("No preemption victims found"),
    )


def _parts(reasons: str) -> Iterator[Part]:
    for piece in re.split(r",\s+(?=\d+ )", reasons.strip().rstrip(".")):
        text = piece.strip().rstrip(".")
        match = _COUNTED.match(text)
        if match:
            yield Part(int(match[1]), match[2].strip())
        elif text:
            yield Part(0, text)
