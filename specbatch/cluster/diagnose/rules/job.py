"""What is true of a Job as a whole, whatever its pods do: done, on its way out, never started, suspended, given up."""

from __future__ import annotations

import re
from collections.abc import Iterator

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Finding
from specbatch.cluster.diagnose.rules.admission import namespace
from specbatch.cluster.jobs.job_view import condition
from specbatch.cluster.manifests.names import CANCELLED
from specbatch.cluster.status.pod_state import termination_message
from specbatch.formatting import pluralize

_MATCHED = re.compile(r"failed with exit code (\d+) matching FailJob rule")
# What the Job controller says of a Job that has failed: cause, and sentence.
_GIVEN_UP = {
    "FailedIndexes": ("retries-exhausted", "{shards} failed as often as backoffLimitPerIndex allows"),
    "MaxFailedIndexesExceeded": ("too-many-failed-shards", "more shards failed than maxFailedIndexes allows"),
    "BackoffLimitExceeded": ("retries-exhausted", "the pods failed as often as backoffLimit allows"),
    "PodFailurePolicy": ("failed-for-good", "a shard failed in a way that no other try could mend"),
}


def complete(evidence: Evidence, job: Object) -> Iterator[Finding]:
    """A Job that is done."""
    view, done = evidence.view, condition(job, "Complete")
    if done is None:
        return
    words = [termination_message(pods[-1]) for pods in view.pods_by_index.values()]
    errors = sum(word.errors or 0 for word in words if word)
    shards = "its shard is" if view.completions == 1 else f"all {view.completions:,} shards are"
    bad = f"; {pluralize(errors, 'row')} could not be answered, and stand in the errors files" if errors else ""
    yield Finding(
        cause="complete",
        sentence=f"nothing is wrong: {shards} done{bad}",
        remedy=f"fetch the results: specbatch collect {view.command_args}",
        since=done.get("lastTransitionTime"),
        severity="ok",
    )


def deleting(evidence: Evidence, job: Object) -> Iterator[Finding]:
    """A Job that is on its way out, or its whole namespace."""
    if not evidence.view.deleting:
        return
    pod: Object = job["spec"]["template"]
    yield from (finding for finding in namespace(evidence, pod) if finding.cause == "namespace-deleting")
    yield Finding(
        cause="deleting",
        sentence="the Job is being deleted",
        remedy="submit again when it is gone: finished rows are kept where the results are",
        evidence=tuple(f"held by finalizer {name}" for name in job["metadata"].get("finalizers") or ()),
        since=job["metadata"]["deletionTimestamp"],
    )


def deadline(evidence: Evidence, job: Object) -> Iterator[Finding]:
    """A Job that took too long."""
    view, failing = evidence.view, evidence.view.failing
    if failing is not None and failing.get("reason") == "DeadlineExceeded":
        seconds = job["spec"].get("activeDeadlineSeconds") or 0
        yield Finding(
            cause="deadline-exceeded",
            sentence=f"the Job took longer than its activeDeadlineSeconds ({seconds:,} s), and was ended; {_done(evidence)}",
            remedy="raise spec.job.activeDeadlineSeconds, or leave it out, and submit again: finished rows are kept",
            evidence=(condition_line(job, failing),),
            since=failing.get("lastTransitionTime"),
            shards=tuple(sorted(set(view.shards) - {view.shards[index] for index in view.completed})),
        )


def not_started(evidence: Evidence, job: Object) -> Iterator[Finding]:
    """What a submit left that died half-way. Kueue starts a Job without submit; not one whose ConfigMap was never made."""
    view = evidence.view
    if not view.submitted and (view.queue is None or not evidence.spec):
        yield Finding(
            cause="not-started",
            sentence="submit ended before it could start the Job",
            remedy="specbatch submit FILE again: it goes on where it stopped (or specbatch delete, to be rid of it)",
            since=job["metadata"].get("creationTimestamp"),
        )


def suspended(evidence: Evidence, job: Object) -> Iterator[Finding]:
    """A Job that a person has stopped."""
    view = evidence.view
    if view.suspended and view.queue is None and view.failing is None:
        word = "cancelled" if CANCELLED in view.annotations else "suspended"
        yield Finding(
            cause=word,
            sentence=f"somebody has {word} the Job; {_done(evidence)}",
            remedy=f"specbatch resume {view.command_args}",
            since=(condition(job, "Suspended") or {}).get("lastTransitionTime"),
        )


def given_up(evidence: Evidence) -> Finding | None:
    """A failed Job of which no failed pod is left to ask."""
    view, failing = evidence.view, evidence.view.failing
    if failing is None:
        return None
    reason = str(failing.get("reason"))
    cause, sentence = _GIVEN_UP.get(reason, ("failed", f"the Job has failed ({reason})"))
    sentence = sentence.replace("{shards}", pluralize(len(view.failed), "shard"))
    match = _MATCHED.search(str(failing.get("message") or ""))
    return Finding(
        cause=cause,
        sentence=f"{sentence}{f' (exit code {match[1]})' if match else ''}, and its pods are gone",
        remedy=f"specbatch retry {view.command_args} tries the failed shards again (its pods then say why); submit again after a change of the spec",
        evidence=(condition_line(view.job, failing),),
        since=failing.get("lastTransitionTime"),
        shards=tuple(view.shards[index] for index in view.failed),
    )


def condition_line(job: Object, said: Object) -> str:
    """A Job's condition as evidence, with the indexes that it speaks of."""
    failed = (job.get("status") or {}).get("failedIndexes")
    indexes = f" (failed indexes {failed})" if failed else ""
    return (
        f"job {job['metadata']['name']}: {said.get('type')}: {said.get('reason')}: {said.get('message') or ''}{indexes}"
    )


def _done(evidence: Evidence) -> str:
    return f"{len(evidence.view.completed):,} of {evidence.view.completions:,} shards are done"
