"""What is true of a Job as a whole, whatever its pods do: done, on its way out, never started, suspended, given up."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from specbatch.cluster.client.kinds import Object
from specbatch.cluster.diagnose.evidence import Evidence
from specbatch.cluster.diagnose.finding import Cause, Finding, Said, by_name
from specbatch.cluster.diagnose.rules.admission import namespace
from specbatch.cluster.jobs.job_view import condition
from specbatch.cluster.manifests.names import CANCELLED
from specbatch.cluster.status.pod_state import termination_message
from specbatch.formatting import pluralize

_CAUSES = by_name(
    Cause("complete", "", "nothing is wrong: {shards} done{bad}", "fetch the results: {collect}", "ok"),
    Cause("fetched", "", "nothing is wrong: the models are on their volume", "submit the spec that names them", "ok"),
    Cause("deleting", "", "the Job is being deleted",
        "submit again when it is gone: finished rows are kept where the results are"),
    Cause("deadline-exceeded", "",
        "the Job took longer than its activeDeadlineSeconds ({seconds} s), and was ended; {done}",
        "raise spec.job.activeDeadlineSeconds, or leave it out, and submit again: finished rows are kept"),
    Cause("not-started", "", "submit ended before it could start the Job",
        "specbatch submit FILE again: it goes on where it stopped (or specbatch delete, to be rid of it)"),
    Cause("cancelled", "", "somebody has cancelled the Job; {done}", "{resume}"),
    Cause("suspended", "", "somebody has suspended the Job; {done}", "{resume}"),
)  # fmt: skip
_RETRY = "{retry} tries the failed shards again (its pods then say why); submit again after a change of the spec"
# Of a Job that has failed and of which no failed pod is left, by its condition.
_FAILED = (
    Cause("retries-exhausted", r"^FailedIndexes:", "{shards} failed as often as backoffLimitPerIndex allows{code}, and its pods are gone", _RETRY),
    Cause("too-many-failed-shards", r"^MaxFailedIndexesExceeded:", "more shards failed than maxFailedIndexes allows{code}, and its pods are gone", _RETRY),
    Cause("retries-exhausted", r"^BackoffLimitExceeded:", "the pods failed as often as backoffLimit allows{code}, and are gone", _RETRY),
    Cause("failed-for-good", r"^PodFailurePolicy:", "a shard failed in a way that no other try could mend{code}, and its pods are gone", _RETRY),
    Cause("failed", r"^(?P<reason>\w+):", "the Job has failed ({reason}), and its pods are gone", _RETRY),
)  # fmt: skip


def state(evidence: Evidence, job: Object) -> Iterator[Finding]:
    """A Job that is done, on its way out with or without its namespace, out of time, never started, or stopped by a person."""
    view, done, failed = evidence.view, condition(job, "Complete"), failed_says(evidence)
    completed = f"{len(view.completed):,} of {view.completions:,} shards are done"
    if done is not None:
        words = [termination_message(pods[-1]) for pods in view.pods_by_index.values()]
        errors = sum(word.errors or 0 for word in words if word)
        shards = "its shard is" if view.completions == 1 else f"all {view.completions:,} shards are"
        bad = f"; {pluralize(errors, 'row')} could not be answered, and stand in the errors files" if errors else ""
        found = evidence.found(_CAUSES["fetched" if view.fetches_models else "complete"], shards=shards, bad=bad)
        yield found.seen(since=done.get("lastTransitionTime"))
    if view.deleting:
        yield from (finding for finding in namespace(evidence, job) if finding.cause == "namespace-deleting")
        held = [f"held by finalizer {name}" for name in job["metadata"].get("finalizers") or ()]
        yield evidence.found(_CAUSES["deleting"]).seen(held, job["metadata"]["deletionTimestamp"])
    if failed is not None and failed.reason == "DeadlineExceeded":
        seconds = f"{job['spec'].get('activeDeadlineSeconds') or 0:,}"
        found = evidence.found(_CAUSES["deadline-exceeded"], seconds=seconds, done=completed)
        left = sorted(set(view.shards) - {view.shards[index] for index in view.completed})
        yield replace(found, shards=tuple(left)).seen([failed.line], failed.since)
    # Kueue starts a Job without submit; not one whose ConfigMap was never made.
    if not view.submitted and (view.queue is None or not evidence.spec):
        yield evidence.found(_CAUSES["not-started"]).seen(since=job["metadata"].get("creationTimestamp"))
    if view.suspended and view.queue is None and failed is None:
        found = evidence.found(_CAUSES["cancelled" if CANCELLED in view.annotations else "suspended"], done=completed)
        yield found.seen(since=(condition(job, "Suspended") or {}).get("lastTransitionTime"))


def given_up(evidence: Evidence) -> Finding | None:
    """A failed Job of which no failed pod is left to ask."""
    view, said = evidence.view, failed_says(evidence)
    if said is None:
        return None
    match = re.search(r"exit code \d+", said.text)
    code, shards = f" ({match[0]})" if match else "", pluralize(len(view.failed), "shard")
    found = evidence.recognise(_FAILED, said, shards=shards, code=code)
    return found and replace(found, shards=tuple(view.shards[index] for index in view.failed))


def failed_says(evidence: Evidence) -> Said | None:
    """The condition of a Job that fails or has failed, with the indexes that it speaks of."""
    view, said = evidence.view, evidence.view.failing
    if said is None:
        return None
    failed = view.status.get("failedIndexes")
    text = f"{said.get('reason')}: {said.get('message') or ''}{f' (failed indexes {failed})' if failed else ''}"
    return Said(text, f"job {view.name}: {said.get('type')}: {text}", said.get("lastTransitionTime"))
