"""One verdict on a Job: the finding of each shard, then what most shards have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Finding
from specbatch.cluster.diagnose.rules.admission import refused, without_pod
from specbatch.cluster.diagnose.rules.exits import failure
from specbatch.cluster.diagnose.rules.job import failed_says, given_up
from specbatch.cluster.diagnose.table import OF_A_JOB, OF_A_POD
from specbatch.cluster.jobs.job_view import JobView

_BEFORE_A_TRY = {"scheduling", "pulling", "starting"}
_SEVERITIES = ("error", "warning", "ok")
# What the same spec would meet again.
_NEEDS_A_CHANGE = {
    "bad-dataset", "bad-spec", "command-not-found", "disk-limit", "image-architecture", "model-missing", "model-not-permitted",
    "out-of-gpu-memory", "out-of-memory-killed", "node-out-of-memory", "shared-memory-full", "storage-not-permitted",
}  # fmt: skip
_EVIDENCE_SHOWN = 12
_EVENTS_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The one cause to look at first, further ones, the most common first, and what was not permitted to look at."""

    finding: Finding
    view: JobView
    others: Sequence[Finding] = ()
    not_looked_at: Sequence[str] = ()


def verdict_of(evidence: Evidence) -> Verdict:
    """The verdict on a Job."""
    view, failed = evidence.view, failed_says(evidence)
    whole = next((finding for rule in OF_A_JOB for finding in rule(evidence, view.job)), None)
    found = [whole] if whole else _grouped(list(_of_shards(evidence)))
    first, *others = found or [given_up(evidence) or _unknown(evidence)]
    if found and whole is None and failed is not None:
        lines, sentence = (failed.line, *first.evidence), f"the Job has failed: {first.sentence}"
        first = replace(first, sentence=sentence, evidence=lines, severity="error")
    first = replace(first, evidence=tuple(dict.fromkeys(first.evidence))[:_EVIDENCE_SHOWN])
    return Verdict(finding=first, view=view, others=others, not_looked_at=evidence.not_permitted)


def _of_shards(evidence: Evidence) -> Iterator[Finding]:
    """One finding for each shard that is not done. Of one that is given up, the newest pod that failed by itself counts: others were told to end."""
    view = evidence.view
    for index, pods in sorted(view.pods_by_index.items()):
        over = view.failing is not None or index in view.failed
        tries = [pod for pod in pods if pod.get("status", {}).get("phase") == "Failed"]
        own = [pod for pod in tries if "deletionTimestamp" not in pod["metadata"]] or tries
        looked_at = [] if index in view.completed else own[-1:] if over else pods[-1:]
        finding = next((one for pod in looked_at for rule in OF_A_POD for one in rule(evidence, pod)), None)
        if finding is not None:
            shown = _with_tries(evidence, finding, tries, waits=pods[-1] not in tries, over=over)
            # A Job that was made smaller has pods of indexes that it no longer has.
            yield replace(shown, shards=(view.shards[index] if index < len(view.shards) else index,))
    refusal = refused(evidence) if view.failing is None else None
    if refusal is not None:
        yield from (replace(refusal, shards=(view.shards[index],)) for index in without_pod(evidence))


def _with_tries(evidence: Evidence, finding: Finding, tries: Sequence[Object], *, waits: bool, over: bool) -> Finding:
    """With what becomes of the shard next. One that is about to be tried again is judged by its last try."""
    said = f"{len(tries)} tries of this shard have failed" if len(tries) > 1 else "one try of this shard has failed"
    if tries and (over or not waits):
        return _next_step(evidence, finding, over=over).seen([said] if len(tries) > 1 else [])
    last = next((found for pod in tries[-1:] for found in failure(evidence, pod)), None)
    if last is None or last.severity != "error" or finding.severity == "error":
        return finding
    if finding.cause in _BEFORE_A_TRY:
        return _next_step(evidence, last, over=over).seen([said, "the next try is on its way"])
    return finding.seen([f"{said}, the last one: {last.sentence}"])


def _next_step(evidence: Evidence, finding: Finding, *, over: bool) -> Finding:
    """The remedy of a pod that failed, and what comes after it."""
    if finding.cause in _NEEDS_A_CHANGE:
        alone, then = "submit again", "then submit again"
    elif over:
        alone, then = evidence.words["retry"], f"then: {evidence.words['retry']}"
    else:
        then = "it is tried again by itself, and keeps its finished rows"
        alone = f"nothing: {then}"
    return replace(finding, remedy=f"{finding.remedy}; {then}" if finding.remedy else alone)


def _grouped(found: Sequence[Finding]) -> list[Finding]:
    """Shards of one cause together, errors before what only takes time, then the most common first.

    Each with the sentence that most of them say, the evidence of the first few, and since the earliest of them.
    """
    groups: dict[str, list[Finding]] = {}
    for finding in found:
        groups.setdefault(finding.cause, []).append(finding)
    merged: list[Finding] = []
    for group in groups.values():
        sentence = Counter(one.sentence for one in group).most_common(1)[0][0]
        chosen = next(one for one in group if one.sentence == sentence)
        lines = tuple(dict.fromkeys(line for one in (chosen, *group) for line in one.evidence))[:_EVIDENCE_SHOWN]
        since = min((one.since for one in group if one.since), default=None)
        shards = tuple(sorted({shard for one in group for shard in one.shards}))
        severity = min((one.severity for one in group), key=_SEVERITIES.index)
        merged.append(replace(chosen, evidence=lines, since=since, shards=shards, severity=severity))
    return sorted(merged, key=lambda one: (_SEVERITIES.index(one.severity), -len(one.shards)))


def _unknown(evidence: Evidence) -> Finding:
    """Nothing that the rules know: what Kubernetes says, conditions of the Job and its pods, then their newest events."""
    view, words = evidence.view, evidence.words
    objects = [("job", view.job), *(("pod", pods[-1]) for pods in view.pods_by_index.values())]
    said = [
        f"{kind} {thing['metadata']['name']}: {one.get('type')} {one.get('status')}: {one.get('reason')}: {one.get('message')}"
        for kind, thing in objects
        for one in (thing.get("status") or {}).get("conditions") or ()
        if one.get("message")
    ]
    about = [ones for name, ones in evidence.events.items() if name == view.name or name.startswith(f"{view.name}-")]
    newest = sorted((one for ones in about for one, _ in ones), key=lambda one: one.time, reverse=True)[:_EVENTS_SHOWN]
    return Finding(
        cause="unknown",
        sentence="no known cause" if view.pods else "nothing is known to be wrong, and no pod is there",
        remedy=f"what Kubernetes says is below; more: {words['events']}, {words['kubectl']} describe job {view.name}",
        evidence=(*said[:_EVENTS_SHOWN], *(one.line for one in newest)),
    )
