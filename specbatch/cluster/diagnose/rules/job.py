"""What is true of a Job as a whole, whatever its pods do: done, on its way out, never started, suspended, given up."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Cause, Finding, by_name
from specbatch.cluster.diagnose.rules.admission import namespace
from specbatch.cluster.jobs.job_view import condition
from specbatch.cluster.manifests.names import CANCELLED
from specbatch.cluster.status.pod_state import termination_message
from specbatch.formatting import pluralize

_CAUSES = by_name(
    Cause("complete", "", "nothing is wrong: {shards} done{bad}", "fetch the results: {collect}", "ok"),
    Cause("fetched", "", "nothing is wrong: the models are on their volume", "submit the spec that names them", "ok"),
    Cause("deleting", "",
        "the Job is being deleted",
        "submit again when it is gone: finished rows are kept where the results are"),
    Cause("deadline-exceeded", "",
        "the Job took longer than its activeDeadlineSeconds ({seconds} s), and was ended; {done}",
        "raise spec.job.activeDeadlineSeconds, or leave it out, and submit again: finished rows are kept"),
    Cause("not-started", "",
        "submit ended before it could start the Job",
        "specbatch submit FILE again: it goes on where it stopped (or specbatch delete, to be rid of it)"),
    Cause("cancelled", "", "somebody has cancelled the Job; {done}", "{resume}"),
    Cause("suspended", "", "somebody has suspended the Job; {done}", "{resume}"),
)  # fmt: skip
_RETRY = "{retry} tries the failed shards again (its pods then say why); submit again after a change of the spec"
# By the reason of the condition of a Job that has failed.
_FAILED = {
    "FailedIndexes": Cause("retries-exhausted", "", "{shards} failed as often as backoffLimitPerIndex allows{code}, and its pods are gone", _RETRY),
    "MaxFailedIndexesExceeded": Cause("too-many-failed-shards", "", "more shards failed than maxFailedIndexes allows{code}, and its pods are gone", _RETRY),
    "BackoffLimitExceeded": Cause("retries-exhausted", "", "the pods failed as often as backoffLimit allows{code}, and are gone", _RETRY),
    "PodFailurePolicy": Cause("failed-for-good", "", "a shard failed in a way that no other try could mend{code}, and its pods are gone", _RETRY),
}  # fmt: skip
_OTHER = Cause("failed", "", "the Job has failed ({reason}), and its pods are gone", _RETRY)


def complete(evidence: Evidence, job: Object) -> Iterator[Finding]:
    """A Job that is done."""
    view, done = evidence.view, condition(job, "Complete")
    if done is not None and view.fetches_models:
        yield _CAUSES["fetched"].finding().seen(since=done.get("lastTransitionTime"))
    elif done is not None:
        words = [termination_message(pods[-1]) for pods in view.pods_by_index.values()]
        errors = sum(word.errors or 0 for word in words if word)
        shards = "its shard is" if view.completions == 1 else f"all {view.completions:,} shards are"
        bad = f"; {pluralize(errors, 'row')} could not be answered, and stand in the errors files" if errors else ""
        found = _CAUSES["complete"].finding(shards=shards, bad=bad, collect=evidence.command("collect"))
        yield found.seen(since=done.get("lastTransitionTime"))


def deleting(evidence: Evidence, job: Object) -> Iterator[Finding]:
    """A Job that is on its way out, or its whole namespace."""
    if evidence.view.deleting:
        pod: Object = job["spec"]["template"]
        yield from (finding for finding in namespace(evidence, pod) if finding.cause == "namespace-deleting")
        held = [f"held by finalizer {name}" for name in job["metadata"].get("finalizers") or ()]
        yield _CAUSES["deleting"].finding().seen(held, job["metadata"]["deletionTimestamp"])


def deadline(evidence: Evidence, job: Object) -> Iterator[Finding]:
    """A Job that took too long."""
    view, failing = evidence.view, evidence.view.failing
    if failing is not None and failing.get("reason") == "DeadlineExceeded":
        seconds = job["spec"].get("activeDeadlineSeconds") or 0
        found = _CAUSES["deadline-exceeded"].finding(seconds=f"{seconds:,}", done=_done(evidence))
        left = tuple(sorted(set(view.shards) - {view.shards[index] for index in view.completed}))
        yield replace(found, shards=left).seen([condition_line(job, failing)], failing.get("lastTransitionTime"))


def not_started(evidence: Evidence, job: Object) -> Iterator[Finding]:
    """What a submit left that died half-way. Kueue starts a Job without submit; not one whose ConfigMap was never made."""
    if not evidence.view.submitted and (evidence.view.queue is None or not evidence.spec):
        yield _CAUSES["not-started"].finding().seen(since=job["metadata"].get("creationTimestamp"))


def suspended(evidence: Evidence, job: Object) -> Iterator[Finding]:
    """A Job that a person has stopped."""
    view = evidence.view
    if view.suspended and view.queue is None and view.failing is None:
        cause = _CAUSES["cancelled" if CANCELLED in view.annotations else "suspended"]
        found = cause.finding(done=_done(evidence), resume=evidence.command("resume"))
        yield found.seen(since=(condition(job, "Suspended") or {}).get("lastTransitionTime"))


def given_up(evidence: Evidence) -> Finding | None:
    """A failed Job of which no failed pod is left to ask."""
    view, failing = evidence.view, evidence.view.failing
    if failing is None:
        return None
    match = re.search(r"exit code \d+", str(failing.get("message") or ""))
    found = _FAILED.get(str(failing.get("reason")), _OTHER).finding(
        shards=pluralize(len(view.failed), "shard"),
        code=f" ({match[0]})" if match else "",
        reason=failing.get("reason"),
        retry=evidence.retry,
    )
    shards = tuple(view.shards[index] for index in view.failed)
    return replace(found, shards=shards).seen([condition_line(view.job, failing)], failing.get("lastTransitionTime"))


def condition_line(job: Object, said: Object) -> str:
    """A Job's condition as evidence, with the indexes that it speaks of."""
    failed = (job.get("status") or {}).get("failedIndexes")
    indexes = f" (failed indexes {failed})" if failed else ""
    return (
        f"job {job['metadata']['name']}: {said.get('type')}: {said.get('reason')}: {said.get('message') or ''}{indexes}"
    )


def _done(evidence: Evidence) -> str:
    return f"{len(evidence.view.completed):,} of {evidence.view.completions:,} shards are done"
