"""What is true of a Job as a whole, whatever its pods do: done, on its way out, never started, suspended."""

from __future__ import annotations

import re

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Finding
from specbatch.cluster.diagnose.queue import held_by_queue
from specbatch.cluster.jobs.indexes import format_indexes
from specbatch.cluster.jobs.job_view import condition
from specbatch.cluster.manifests.names import CANCELLED
from specbatch.cluster.status.pod_state import last_word
from specbatch.formatting import pluralize

_MATCHED = re.compile(r"Container \S+ for pod (\S+) failed with exit code (\d+) matching FailJob rule")


def whole_job(evidence: Evidence) -> Finding | None:
    """The verdict, where no pod need be asked."""
    return (
        _complete(evidence)
        or _namespace_deleting(evidence)
        or _deleting(evidence)
        or _deadline(evidence)
        or _not_started(evidence)
        or held_by_queue(evidence)
        or _suspended(evidence)
    )


def _complete(evidence: Evidence) -> Finding | None:
    view = evidence.view
    done = condition(view.job, "Complete")
    if done is None:
        return None
    words = [last_word(pod) for pods in view.pods_by_index.values() for pod in pods[-1:]]
    errors = sum(word.errors or 0 for word in words if word)
    shards = "its shard is" if view.completions == 1 else f"all {view.completions:,} shards are"
    bad = f"; {pluralize(errors, 'row')} could not be answered, and stand in the errors files" if errors else ""
    return Finding(
        cause="complete",
        sentence=f"nothing is wrong: {shards} done{bad}",
        remedy=f"fetch the results: specbatch collect {view.command_args}",
        since=done.get("lastTransitionTime"),
        mood="fine",
    )


def _namespace_deleting(evidence: Evidence) -> Finding | None:
    namespace = evidence.namespace or {}
    asked = (namespace.get("metadata") or {}).get("deletionTimestamp")
    if asked is None:
        return None
    return Finding(
        cause="namespace-deleting",
        sentence=f"the namespace {evidence.view.namespace} is being deleted, and the Job with it",
        remedy="submit to another namespace (-n); results on its claims go with it, those on object storage stay",
        since=asked,
    )


def _deleting(evidence: Evidence) -> Finding | None:
    if not evidence.view.deleting:
        return None
    finalizers = evidence.view.job["metadata"].get("finalizers") or ()
    held = tuple(f"held by finalizer {name}" for name in finalizers)
    return Finding(
        cause="deleting",
        sentence="the Job is being deleted",
        remedy="submit again when it is gone: finished rows are kept where the results are",
        evidence=held,
        since=evidence.view.job["metadata"]["deletionTimestamp"],
    )


def _deadline(evidence: Evidence) -> Finding | None:
    view, failing = evidence.view, evidence.view.failing
    if failing is None or failing.get("reason") != "DeadlineExceeded":
        return None
    seconds = view.job["spec"].get("activeDeadlineSeconds")
    return Finding(
        cause="deadline-exceeded",
        sentence=f"the Job took longer than its activeDeadlineSeconds ({seconds:,} s), and was ended; "
        f"{len(view.completed):,} of {view.completions:,} shards are done",
        remedy="raise spec.job.activeDeadlineSeconds, or leave it out, and submit again: finished rows are kept",
        evidence=(condition_line(view.job, failing),),
        since=failing.get("lastTransitionTime"),
        shards=tuple(sorted(set(view.shards) - {view.shards[index] for index in view.completed})),
    )


def _not_started(evidence: Evidence) -> Finding | None:
    """Kueue starts a Job without submit; not one whose ConfigMap was never made."""
    view = evidence.view
    if view.submitted or (view.queue is not None and evidence.spec):
        return None
    return Finding(
        cause="not-started",
        sentence="submit ended before it could start the Job",
        remedy="specbatch submit FILE again: it goes on where it stopped (or specbatch delete, to be rid of it)",
        since=view.job["metadata"].get("creationTimestamp"),
    )


def _suspended(evidence: Evidence) -> Finding | None:
    view = evidence.view
    if not view.suspended or view.queue is not None or view.failing is not None:
        return None
    said = condition(view.job, "Suspended") or {}
    word = "cancelled" if CANCELLED in view.annotations else "suspended"
    return Finding(
        cause=word,
        sentence=f"somebody has {word} the Job; {len(view.completed):,} of {view.completions:,} shards are done",
        remedy=f"specbatch resume {view.command_args}",
        since=said.get("lastTransitionTime"),
    )


def given_up(evidence: Evidence) -> Finding | None:
    """A failed Job of which no failed pod is left to ask."""
    view, failing = evidence.view, evidence.view.failing
    if failing is None:
        return None
    reason, message = str(failing.get("reason")), str(failing.get("message") or "")
    failed = tuple(view.shards[index] for index in view.failed)
    again = f"specbatch retry {view.command_args} tries the failed shards again (its pods then say why); submit again after a change of the spec"
    sentences = {
        "FailedIndexes": (
            "retries-exhausted",
            f"{pluralize(len(failed), 'shard')} failed as often as backoffLimitPerIndex allows",
        ),
        "MaxFailedIndexesExceeded": (
            "too-many-failed-shards",
            f"more shards failed ({len(failed):,}) than maxFailedIndexes allows",
        ),
        "BackoffLimitExceeded": ("retries-exhausted", "the pods failed as often as backoffLimit allows"),
        "PodFailurePolicy": ("failed-for-good", "a shard failed in a way that no other try could mend"),
    }
    cause, sentence = sentences.get(reason, ("failed", f"the Job has failed ({reason})"))
    if match := _MATCHED.search(message):
        sentence += f" (exit code {match[2]})"
    return Finding(
        cause=cause,
        sentence=f"{sentence}, and its pods are gone",
        remedy=again,
        evidence=(condition_line(view.job, failing),),
        since=failing.get("lastTransitionTime"),
        shards=failed,
    )


def condition_line(job: Object, said: Object) -> str:
    """A Job's condition as evidence, with the indexes that it speaks of."""
    failed = (job.get("status") or {}).get("failedIndexes")
    indexes = f" (failed indexes {failed})" if failed else ""
    return (
        f"job {job['metadata']['name']}: {said.get('type')}: {said.get('reason')}: {said.get('message') or ''}{indexes}"
    )


def shards_text(shards: tuple[int, ...], completions: int) -> str:
    """`0,2-5 (5 of 16)`; empty where there is but one."""
    if not shards or completions == 1:
        return ""
    return f"{format_indexes(shards)} ({len(shards):,} of {completions:,})"
