"""From the evidence to a verdict. Pure: the rules of each shard in the order of certainty, then what most shards have in common."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.containers import config_problem, sandbox_problem
from specbatch.cluster.diagnose.creation import refused, without_pod
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.failures import failure
from specbatch.cluster.diagnose.finding import Finding, Verdict
from specbatch.cluster.diagnose.images import image_problem
from specbatch.cluster.diagnose.mounts import mount_problem
from specbatch.cluster.diagnose.running import ending, running, starting
from specbatch.cluster.diagnose.scheduling import unschedulable
from specbatch.cluster.diagnose.storage import claim_problem, volume_problem
from specbatch.cluster.diagnose.whole_job import condition_line, given_up, whole_job
from specbatch.cluster.jobs.job_view import JobView
from specbatch.cluster.jobs.timestamps import event_line, event_time

# What a pod is asked, in this order; the first answer counts. A claim comes before the scheduler, which cannot place a pod without it.
_OF_A_POD: Sequence[Callable[[Evidence, Object], Finding | None]] = (
    failure,
    ending,
    claim_problem,
    volume_problem,
    unschedulable,
    image_problem,
    config_problem,
)
# Asked only of a pod whose container has not run: their events may be of an earlier moment.
_OF_A_STARTING_POD: Sequence[Callable[[Evidence, Object], Finding | None]] = (mount_problem, sandbox_problem, starting)
_BEFORE_A_TRY = {"scheduling", "pulling", "starting"}
_MOODS = {"problem": 0, "waiting": 1, "fine": 2}
# What the same spec would meet again.
_NEEDS_A_CHANGE = {
    "bad-dataset",
    "bad-spec",
    "command-not-found",
    "disk-limit",
    "image-architecture",
    "model-missing",
    "model-not-permitted",
    "out-of-gpu-memory",
    "out-of-memory-killed",
    "node-out-of-memory",
    "shared-memory-full",
    "storage-not-permitted",
}
_TRIED_AGAIN = re.compile(r"\b(?:is|it is) (?:tried|started) again\b")
_EVIDENCE_SHOWN = 12
_EVENTS_SHOWN = 5


def judge(evidence: Evidence) -> Verdict:
    """The verdict on a Job."""
    whole = whole_job(evidence)
    found = [whole] if whole else _grouped(list(_of_shards(evidence)))
    if not found:
        found = [given_up(evidence) or _unknown(evidence)]
    first, *others = found
    if whole is None and evidence.view.failing is not None:
        first = _final(evidence, first)
    view = evidence.view
    return Verdict(
        finding=replace(first, evidence=tuple(dict.fromkeys(first.evidence))[:_EVIDENCE_SHOWN]),
        others=others,
        run=view.run,
        job=view.name,
        namespace=view.namespace,
        completions=view.completions,
        not_looked_at=evidence.not_looked_at,
    )


def _of_shards(evidence: Evidence) -> Iterator[Finding]:
    """One finding for each shard that is not done."""
    view = evidence.view
    done, given_up_on = set(view.completed), set(view.failed)
    for index, pods in sorted(view.pods_by_index.items()):
        if index in done:
            continue
        over = view.failing is not None or index in given_up_on
        pod = _last_failed(pods) if over else pods[-1]
        finding = None if pod is None else _of_pod(evidence, pod)
        if finding is not None:
            told = _with_tries(evidence, finding, pods)
            yield replace(_given_up(view, told) if over else told, shards=_shard(view, index))
    if view.failing is None:
        finding = refused(evidence)
        for index in without_pod(evidence) if finding else ():
            assert finding is not None
            yield replace(finding, shards=_shard(view, index))


def _given_up(view: JobView, finding: Finding) -> Finding:
    """Without the promise of another try, where there will be none: of the remedy what is left for a person to do."""
    clauses = [one for one in finding.remedy.split("; ") if not _TRIED_AGAIN.search(one)]
    return replace(finding, remedy="; ".join(clauses) or f"specbatch retry {view.command_args}")


def _shard(view: JobView, index: int) -> tuple[int, ...]:
    """A Job that was made smaller has pods of indexes that it no longer has."""
    return (view.shards[index] if index < len(view.shards) else index,)


def _of_pod(evidence: Evidence, pod: Object) -> Finding | None:
    pending = (pod.get("status") or {}).get("phase") == "Pending"
    rules = (*_OF_A_POD, running, *(_OF_A_STARTING_POD if pending else ()))
    answers = (rule(evidence, pod) for rule in rules)
    return next((answer for answer in answers if answer is not None), None)


def _last_failed(pods: Sequence[Object]) -> Object | None:
    """The newest that failed by itself: those that end because the Job does are told to."""
    failed = [pod for pod in pods if (pod.get("status") or {}).get("phase") == "Failed"]
    own = [pod for pod in failed if "deletionTimestamp" not in pod["metadata"]]
    return next(reversed(own or failed), None)


def _with_tries(evidence: Evidence, finding: Finding, pods: Sequence[Object]) -> Finding:
    """With what became of earlier tries: a shard that is about to be tried again fails for the reason of its last try."""
    tries = sum(1 for pod in pods if (pod.get("status") or {}).get("phase") == "Failed")
    if finding.mood == "problem" or not tries:
        return finding if tries < 2 else replace(finding, evidence=(*finding.evidence, _tries_text(tries)))
    last = _last_failed(pods)
    before = None if last is None else failure(evidence, last)
    if before is None or before.mood != "problem":
        return finding
    if finding.cause in _BEFORE_A_TRY:
        return replace(before, evidence=(*before.evidence, _tries_text(tries), "the next try is on its way"))
    return replace(finding, evidence=(*finding.evidence, f"{_tries_text(tries)}, the last one: {before.sentence}"))


def _tries_text(tries: int) -> str:
    return f"{tries} tries of this shard have failed" if tries > 1 else "one try of this shard has failed"


def _grouped(found: Sequence[Finding]) -> list[Finding]:
    """Shards of one cause together: problems before what only takes time, then the most common first."""
    groups: dict[str, list[Finding]] = {}
    for finding in found:
        groups.setdefault(finding.cause, []).append(finding)
    merged = [_merged(group) for group in groups.values()]
    return sorted(merged, key=lambda one: (_MOODS[one.mood], -len(one.shards)))


def _merged(group: Sequence[Finding]) -> Finding:
    """The sentence that most of them say; the evidence of the first few; since the earliest of them."""
    sentence = Counter(one.sentence for one in group).most_common(1)[0][0]
    chosen = next(one for one in group if one.sentence == sentence)
    lines = [line for one in [chosen, *group] for line in one.evidence]
    return replace(
        chosen,
        evidence=tuple(dict.fromkeys(lines))[:_EVIDENCE_SHOWN],
        since=min((one.since for one in group if one.since), default=None),
        shards=tuple(sorted({shard for one in group for shard in one.shards})),
        mood=min((one.mood for one in group), key=_MOODS.__getitem__),
    )


def _final(evidence: Evidence, finding: Finding) -> Finding:
    """The Job has given up, or is about to: nothing is tried again by itself any more."""
    view, failing = evidence.view, evidence.view.failing
    assert failing is not None
    if finding.cause in {"retries-exhausted", "too-many-failed-shards", "failed-for-good", "failed"}:
        return finding
    retry = f"specbatch retry {view.command_args}"
    remedy = retry if finding.mood == "waiting" else finding.remedy
    if finding.cause not in _NEEDS_A_CHANGE and retry not in remedy:
        remedy = f"{remedy}; then: {retry}"
    elif finding.cause in _NEEDS_A_CHANGE and "submit" not in remedy:
        remedy = f"{remedy}; then submit again"
    return replace(
        finding,
        sentence=f"the Job has failed: {finding.sentence}",
        remedy=remedy,
        evidence=(condition_line(view.job, failing), *finding.evidence),
        mood="problem",
    )


def _unknown(evidence: Evidence) -> Finding:
    """Nothing that the rules know: the newest events, for a person to read."""
    events = sorted(evidence.events, key=event_time, reverse=True)[:_EVENTS_SHOWN]
    name = evidence.view.name
    return Finding(
        cause="unknown",
        sentence="nothing is known to be wrong, and no pod is there" if not evidence.view.pods else "no known cause",
        remedy=f"see specbatch events {evidence.view.command_args}, and kubectl describe job {name} -n {evidence.view.namespace}; the Job "
        "controller may only just have begun",
        evidence=tuple(event_line(event) for event in events),
    )
